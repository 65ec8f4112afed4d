package server

import (
	"context"
	"log/slog"

	client "github.com/hyperplane-project/hyperplane/clients/go"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/transfer"
	srpcclient "github.com/hyperplane-project/hyperplane/srpcshim/client"
)

// hosts connects to other hosts as this one. The files are read anew for each connection: certificates are renewed.
type hosts struct {
	config.Peers
	log *slog.Logger
}

// Dial implements transfer.Dialer. A host that is no Hyperplane speaks SRPC; which of the two it is, it shows itself unless the configuration says it.
func (h hosts) Dial(ctx context.Context, address string) (transfer.Conn, error) {
	if h.CertFile == "" {
		return nil, fault.New(fault.FailedPrecondition, "this host has no certificate to show to other hosts; set peers.cert_file, peers.key_file and peers.ca_file in its configuration")
	}
	c := client.Config{Server: address, CAFile: h.CAFile, CertFile: h.CertFile, KeyFile: h.KeyFile}
	cfg, err := c.TLS()
	if err != nil {
		return nil, err
	}
	protocol := h.Protocol
	if protocol == config.ProtocolAuto {
		if protocol, err = probe(ctx, address, cfg); err != nil {
			return nil, err
		}
	}
	h.log.LogAttrs(ctx, slog.LevelInfo, "calls another host", slog.String("address", address), slog.String("protocol", protocol), slog.String("configured", h.Protocol))
	if protocol == config.ProtocolSRPC {
		return srpcclient.Dial(ctx, srpcclient.Config{Address: address, TLS: cfg})
	}
	return client.Dial(c)
}
