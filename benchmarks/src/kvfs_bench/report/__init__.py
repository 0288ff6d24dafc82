"""Results as Markdown and as one page of HTML, made from the JSON form."""
