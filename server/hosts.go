package server

import (
	"context"

	client "github.com/hyperplane-project/hyperplane/clients/go"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/transfer"
)

// hosts connects to other hosts as this one. The files are read anew for each connection: certificates are renewed.
type hosts struct{ config.Peers }

// Dial implements transfer.Dialer.
func (h hosts) Dial(_ context.Context, address string) (transfer.Conn, error) {
	if h.CertFile == "" {
		return nil, fault.New(fault.FailedPrecondition, "this host has no certificate to show to other hosts; set peers.cert_file, peers.key_file and peers.ca_file in its configuration")
	}
	return client.Dial(client.Config{Server: address, CAFile: h.CAFile, CertFile: h.CertFile, KeyFile: h.KeyFile})
}
