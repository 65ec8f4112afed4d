// Package parity proves that every method of the schema does the same over every transport. Its test runs one table of cases over gRPC,
// REST, SRPC-gob and SRPC-JSON against a whole server, checks that methods without a case answer UNIMPLEMENTED, and keeps
// API_CHECKLIST.md, which is made from the schema and from what the test saw (go test ./server/parity -update).
package parity
