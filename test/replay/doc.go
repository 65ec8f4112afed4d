// Package replay holds no code but a test: every recording of stock SRPC clients is played against a whole server, and what the server says is
// compared by meaning with what the stock server said.
//
// Sessions are sequences of recordings on one server, in an order in which each finds the state that it presumes; what no recording brings about
// is done before as a stated given. Where the server rightly says something else, a table says what and why, and the test fails when that is
// no longer so. Every recording is in one session, or in the list of those that are not played, with the reason.
package replay
