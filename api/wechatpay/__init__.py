"""The wire of WeChat Pay's clients: XML, signatures, client certificates, and the paths that they call.

What the calls do is in `engine.wechatpay`. Nothing here is used by the routes under /v1.
"""
