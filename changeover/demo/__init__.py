"""`changeover demo`: a real tRPC server, the proxy, two clients and a scripted day, told on one screen.

It runs from a checkout of the project, which holds the example server and its clients.
"""
