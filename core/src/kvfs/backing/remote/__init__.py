"""What drivers of remote stores share; there is nothing here for their users.

==============  ==================================================================================
``settings``    the settings that all of them have, by the same names
``ranged``      objects read in ranges, in parallel, in order, resumed where they broke off
``retries``     requests made again, with full jitter, as long as the server wants it
``probing``     which conditions on writes the server keeps to
``forking``     what a process must not inherit
``checksums``   of whole objects, checked while the bytes go by
==============  ==================================================================================
"""
