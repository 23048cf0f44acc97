"""What flows on the bus, one `Stream` record a domain and one file a record, and the table of all of them. May say
what rows look like and by dotted reference who reads exports and draws views; may not read, publish or answer
anything itself.
"""
