package ctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/internal/certs"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// The files of the two authorities.
const (
	caFile, caKeyFile                 = "CA.pem", "CA.key"
	identityCAFile, identityCAKeyFile = "IdentityCA.pem", "IdentityCA.key"
)

// certFlags are what all certificate commands share.
type certFlags struct {
	dir, out string
	lifetime time.Duration
	identity bool
	force    bool
}

func (a *app) certCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "cert", Short: "Make certificates for a site that has no PKI",
		Long: `cert makes the certificates by which servers and users know each other, on this computer and without a server:

  hyperctl cert ca --dir pki                               an authority for users, their groups and their methods
  hyperctl cert identity-ca --dir pki                      one for users and groups only: methods that it certifies count for nothing
  hyperctl cert server hv1.example.com --dir pki           a server's certificate
  hyperctl cert user alice --group team-a --dir pki        a user's
  hyperctl cert user root --method '*.*' --dir pki         an administrator's

A server believes them that has client_ca_file: CA.pem, identity_ca_file: IdentityCA.pem, cert_file and key_file in its configuration. hyperctl shows a
user's with --cert and --key; clients of the SRPC protocol find those that lie in ~/.ssl. The keys of the authorities let whoever has them be anybody: keep
them off the servers.`,
	}
	c.AddCommand(a.certCA("ca", "Make an authority for users, groups and methods, and for servers", "Hyperplane CA", caFile, caKeyFile),
		a.certCA("identity-ca", "Make an authority for users and groups only", "Hyperplane identity CA", identityCAFile, identityCAKeyFile),
		a.certUser(), a.certServer(), a.certShow())
	return c
}

func (f *certFlags) bind(c *cobra.Command) {
	c.Flags().StringVar(&f.dir, "dir", ".", "`directory` of the authorities")
	c.Flags().DurationVar(&f.lifetime, "lifetime", 0, "how long the certificate is good for (default ten years for an authority, one for others)")
	c.Flags().BoolVar(&f.force, "force", false, "replace files that are there")
}

// write writes a pair, unless something is there, and says where.
func (f *certFlags) write(c *cobra.Command, pair certs.Pair, certFile, keyFile string) error {
	if err := os.MkdirAll(filepath.Dir(certFile), 0o700); err != nil {
		return fault.Wrap(err, "certificate")
	}
	for _, file := range []string{certFile, keyFile} {
		if _, err := os.Lstat(file); !f.force && !errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.AlreadyExists, "%s: is there; --force replaces it", file)
		}
	}
	if err := pair.Write(certFile, keyFile); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n%s\n", certFile, keyFile)
	return err
}

func (f *certFlags) term() certs.Term { return certs.Term{Now: time.Now(), Lifetime: f.lifetime} }

// authority reads the one that signs.
func (f *certFlags) authority() (certs.Pair, error) {
	cert, key, command := caFile, caKeyFile, "ca"
	if f.identity {
		cert, key, command = identityCAFile, identityCAKeyFile, "identity-ca"
	}
	pair, err := certs.Read(filepath.Join(f.dir, cert), filepath.Join(f.dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return pair, fault.New(fault.NotFound, "%s: there is no authority; hyperctl cert %s --dir %s makes one", filepath.Join(f.dir, cert), command, f.dir)
	}
	return pair, err
}

func (a *app) certCA(use, short, name, certFile, keyFile string) *cobra.Command {
	var f certFlags
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			pair, err := certs.NewCA(name, f.term())
			if err != nil {
				return err
			}
			return f.write(c, pair, filepath.Join(f.dir, certFile), filepath.Join(f.dir, keyFile))
		},
	}
	f.bind(c)
	c.Flags().StringVar(&name, "name", name, "`name` of the authority; no two that a server believes may have the same")
	return c
}

func (a *app) certUser() *cobra.Command {
	var f certFlags
	var user certs.User
	c := &cobra.Command{
		Use: "user NAME", Short: "Make a user's certificate: NAME.cert and NAME.key", Args: cobra.ExactArgs(1),
		Long: `user makes a user's certificate. Whoever shows it is that user, in the groups named; on the methods named he has power: he may call private ones, and the
owners of VMs are not asked. A method is Service.Method, and either half may have wildcards: Hypervisor.Get*, or *.* for all.`,
		RunE: func(c *cobra.Command, args []string) error {
			user.Name = args[0]
			if f.identity && len(user.Methods) > 0 {
				return fault.New(fault.InvalidArgument, "--method: methods under the identity authority count for nothing; leave out --identity")
			}
			if strings.ContainsAny(user.Name, "/\\") {
				return fault.New(fault.InvalidArgument, "user %q: no file can be named so", user.Name)
			}
			ca, err := f.authority()
			if err != nil {
				return err
			}
			pair, err := ca.NewUser(user, f.term())
			if err != nil {
				return err
			}
			return f.write(c, pair, filepath.Join(f.out, user.Name+".cert"), filepath.Join(f.out, user.Name+".key"))
		},
	}
	f.bind(c)
	c.Flags().StringVar(&f.out, "out", ".", "`directory` for the files; clients of the SRPC protocol look into ~/.ssl")
	c.Flags().BoolVar(&f.identity, "identity", false, "let the identity authority sign it")
	c.Flags().StringSliceVar(&user.Groups, "group", nil, "`group` that the user is in, may be repeated")
	c.Flags().StringSliceVar(&user.Methods, "method", nil, "`method` that the user has power on, may be repeated")
	return c
}

func (a *app) certServer() *cobra.Command {
	var f certFlags
	var methods []string
	c := &cobra.Command{
		Use: "server NAME|ADDRESS...", Short: "Make a server's certificate: cert.pem and key.pem", Args: cobra.MinimumNArgs(1),
		Long: `server makes the certificate of a server that is reached at the names and addresses given. With --method the server is also a user of that
(first) name to other servers, as hypervisors between which VMs move are: --method 'Hypervisor.*', or the methods that docs/vms.md names.`,
		RunE: func(c *cobra.Command, args []string) error {
			ca, err := f.authority()
			if err != nil {
				return err
			}
			var as *certs.User
			if len(methods) > 0 {
				as = &certs.User{Name: args[0], Methods: methods}
			}
			pair, err := ca.NewServer(args, as, f.term())
			if err != nil {
				return err
			}
			return f.write(c, pair, filepath.Join(f.out, "cert.pem"), filepath.Join(f.out, "key.pem"))
		},
	}
	f.bind(c)
	c.Flags().StringVar(&f.out, "out", ".", "`directory` for the files")
	c.Flags().StringSliceVar(&methods, "method", nil, "`method` that the server has power on, on other servers, may be repeated")
	return c
}

// certificate is what certShow tells.
type certificate struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	CA       bool      `json:"ca"`
	Begins   time.Time `json:"begins"`
	Ends     time.Time `json:"ends"`
	Names    []string  `json:"names,omitempty"`
	Groups   []string  `json:"groups,omitempty"`
	Methods  []string  `json:"methods,omitempty"`
	FileName string    `json:"file"`
}

func (a *app) certShow() *cobra.Command {
	return &cobra.Command{
		Use: "show FILE...", Short: "Show whom certificates stand for", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var all []certificate
			for _, file := range args {
				read, err := certs.ReadCertificates(file)
				if err != nil {
					return err
				}
				for _, x := range read {
					one := certificate{
						Subject: x.Subject.CommonName, Issuer: x.Issuer.CommonName, CA: x.IsCA, Begins: x.NotBefore, Ends: x.NotAfter, Names: x.DNSNames, FileName: file,
					}
					for _, ip := range x.IPAddresses {
						one.Names = append(one.Names, ip.String())
					}
					who, err := principal.FromCertificate(x, func([]byte) bool { return true })
					if err != nil && !x.IsCA {
						return fault.Wrap(err, "%s", file)
					}
					one.Groups, one.Methods = who.Groups, who.Powers
					all = append(all, one)
				}
			}
			return output.WriteValue(c.OutOrStdout(), a.format, all, func() output.Rows {
				r := output.Rows{Header: []string{"SUBJECT", "ISSUER", "ENDS", "NAMES", "GROUPS", "METHODS"}}
				for _, one := range all {
					r.Add(one.Subject, one.Issuer, one.Ends.Format(time.DateOnly), strings.Join(one.Names, ","), strings.Join(one.Groups, ","), strings.Join(one.Methods, ","))
				}
				return r
			})
		},
	}
}
