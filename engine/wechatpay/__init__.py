"""What WeChat Pay's clients can do here: merchants send packets and pay users, under order numbers of their own.

The use cases, without HTTP, XML and signatures (`api.wechatpay`). Money moves by `engine.packets` and
`engine.claiming` only.
"""
