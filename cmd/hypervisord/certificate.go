package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/pki"
)

// newIssueCertificateCommand makes certificates of this host's CA, for users and for other hosts.
func newIssueCertificateCommand() *cobra.Command {
	var stateDir, out string
	var wish pki.Wish
	c := &cobra.Command{
		Use:   "issue-certificate --name NAME [--method SERVICE.METHOD]... --out DIR",
		Short: "Make a client certificate for a user or for another host",
		Long: `issue-certificate makes a client certificate of this host's CA and writes client.pem, client.key and the CA's own ca.pem into
DIR, which must not have them. The holder may call what any user may call, and in addition, as administrators do, the methods that are
named. The daemon need not run, but must have been started once.

For a host that is to take VMs over from this one, name the methods of a migration; put the three files on that host and name them in
its configuration as peers.cert_file, peers.key_file and peers.ca_file:

  hypervisord issue-certificate --name host-b --out /root/for-host-b --method VmTransferService.PrepareVmForMigration \
    --method PeerService.SendVm --method PeerService.Tunnel

The key lets its holder in until the certificate ends: move it over a safe way and remove it here.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return fault.New(fault.InvalidArgument, "--out is missing")
			}
			if err := pki.Issue(filepath.Join(stateDir, "pki"), out, time.Now(), wish); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n%s\n%s\n", filepath.Join(out, pki.IssuedFile), filepath.Join(out, pki.IssuedKeyFile), filepath.Join(out, pki.CAFile))
			return err
		},
	}
	s := c.Flags()
	s.StringVar(&stateDir, "state-dir", config.Default().StateDir, "`directory` of everything the daemon keeps")
	s.StringVar(&wish.Name, "name", "", "`name` of the user or host")
	s.StringSliceVar(&wish.Methods, "method", nil, "`method` that the holder has power on, may be repeated")
	s.DurationVar(&wish.Lifetime, "lifetime", 0, "how long the certificate is good for (default a year)")
	s.StringVar(&out, "out", "", "`directory` for the files")
	return c
}
