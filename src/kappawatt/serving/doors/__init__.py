"""One protocol a file: bytes of a request to columns, and answers to bytes. A door may translate, and nothing else:
what is answered is decided by the model, and two doors give the same bits.
"""
