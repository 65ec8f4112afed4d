package parity_test

// srpcTransports returns the SRPC transports that are built.
func srpcTransports(*world) map[string]transport { return nil }
