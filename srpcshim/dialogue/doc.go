// Package dialogue is how stream methods travel over SRPC: for each method, what comes on the wire as the messages that its gRPC handler
// receives, and what the handler sends as what goes onto the wire. Where gRPC has pieces, the wire has raw bytes behind a message; where gRPC
// has a status, it has an Error field. The source of these facts is the protocol as spoken by the stock clients and servers of the Dominator
// ecosystem. The structs are messages of that protocol: the names of their fields are what counts.
package dialogue
