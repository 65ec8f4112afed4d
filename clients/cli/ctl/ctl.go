// Package ctl is the command tree of hyperctl: everything that is done with a server from a terminal.
package ctl

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/clients/cli/exit"
	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	client "github.com/hyperplane-project/hyperplane/clients/go"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/version"
)

// app is what all commands share.
type app struct {
	getenv    func(string) string
	format    output.Format
	server    string
	ca        string
	cert, key string
	tokenFile string
	plaintext bool
	progress  string
}

// New makes the command tree. getenv reads the environment.
func New(getenv func(string) string) *cobra.Command {
	a := &app{getenv: getenv}
	c := &cobra.Command{
		Use:   "hyperctl",
		Short: "Work with a Hyperplane server: VMs, consoles, export jobs",
		Long: `hyperctl works with a Hyperplane server. Without --server it uses the admin socket of this host.

Environment: HYPERPLANE_SERVER, HYPERPLANE_CA, HYPERPLANE_CERT, HYPERPLANE_KEY, HYPERPLANE_TOKEN or HYPERPLANE_TOKEN_FILE stand for the
flags. A VM is named by its IP address, UUID or name.

` + exit.Help,
		Version:      version.Text(),
		SilenceUsage: true, SilenceErrors: true,
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fault.As(fault.InvalidArgument, err, "flags") })
	f := c.PersistentFlags()
	f.StringVarP(&a.server, "server", "s", getenv("HYPERPLANE_SERVER"), "`address` of the server, host:port or unix:///path")
	f.StringVar(&a.ca, "ca", getenv("HYPERPLANE_CA"), "`file` of the CA that signed the server's certificate")
	f.StringVar(&a.cert, "cert", getenv("HYPERPLANE_CERT"), "client certificate `file`")
	f.StringVar(&a.key, "key", getenv("HYPERPLANE_KEY"), "`file` of the client certificate's key")
	f.StringVar(&a.tokenFile, "token-file", getenv("HYPERPLANE_TOKEN_FILE"), "`file` that holds a bearer token")
	f.BoolVar(&a.plaintext, "plaintext", false, "speak without TLS (only to a server on this host)")
	f.StringVar(&a.progress, "progress", "auto", "how progress is shown: auto, bar, plain or none")
	a.format.Bind(c, "output")
	c.AddCommand(a.vmCommand(), a.consoleCommand(), a.vncCommand(), a.monitorCommand(), a.hostCommand(), a.jobCommand(), a.sourceCommand(), a.imageCommand(), a.subnetCommand(), a.statusCommand(), a.certCommand())
	for _, sub := range c.Commands() {
		arguments(sub)
	}
	return c
}

// arguments makes wrong arguments usage errors, all over the tree.
func arguments(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			return fault.As(fault.InvalidArgument, check(c, args), "%s", c.CommandPath())
		}
	}
	for _, sub := range c.Commands() {
		arguments(sub)
	}
}

// config says how to reach the server and who calls.
func (a *app) config() (client.Config, error) {
	cfg := client.Config{Server: a.server, CAFile: a.ca, CertFile: a.cert, KeyFile: a.key, Plaintext: a.plaintext, Token: a.getenv("HYPERPLANE_TOKEN")}
	var err error
	if a.tokenFile != "" {
		cfg.Token, err = client.ReadToken(a.tokenFile)
	}
	return cfg, err
}

// dial connects to the server.
func (a *app) dial() (*grpc.ClientConn, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	return client.Dial(cfg)
}

// with runs a command's work on a connection.
func (a *app) with(work func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cc, err := a.dial()
		if err != nil {
			return err
		}
		err = work(c.Context(), c, cc, args)
		if closed := cc.Close(); err == nil {
			err = closed
		}
		return err
	}
}

// display makes a progress display on the command's error output.
func (a *app) display(w io.Writer) (*progress.Display, error) {
	mode, err := progress.ParseMode(a.progress)
	if err != nil {
		return nil, err
	}
	return progress.New(w, mode, time.Now), nil
}

// Main runs the tool and returns its exit code.
func Main(ctx context.Context) int {
	c := New(os.Getenv)
	return exit.Report(os.Stderr, "hyperctl", c.ExecuteContext(ctx))
}
