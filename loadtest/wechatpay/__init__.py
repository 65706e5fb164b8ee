"""WeChat Pay's `sendredpack` from many connections at once: how fast, what it costs each process, and an audit."""
