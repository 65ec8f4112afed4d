// Package srpcshim serves the legacy SRPC protocol of the Dominator ecosystem: its connections, its codecs and its rules of one call after
// the other. Services are registered on a Mux as on a gRPC server, and a call runs through the same interceptors and the same handler, so
// there is no logic of a service here, and no access rule. The messages are generated (gen/srpc).
//
// A connection begins with an HTTP/1.0 CONNECT request whose path chooses the codec and TLS; TLS begins after the answer. Then, per call: the
// client sends "Service.Method" and a newline; the server answers with a newline (accepted) or an error text and a newline; the client sends
// the request; the server answers with a newline and the reply, or with an error text and a newline. An empty method line is a ping. The
// source of these facts is the protocol as spoken by the stock clients and servers of that ecosystem.
package srpcshim
