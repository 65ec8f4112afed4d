package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

const (
	listenFlag        = "listen"
	controlFlag       = "control"
	usernameFlag      = "username"
	passwordFileFlag  = "password-file"
	certOutFlag       = "cert-out"
	urlFileFlag       = "url-file"
	leaseTimeoutFlag  = "lease-timeout"
	leaseDelayFlag    = "lease-delay"
	leaseHostFlag     = "lease-host"
	contentLengthFlag = "content-length"
	cacheDirFlag      = "cache-dir"
	prepareFlag       = "prepare"
	inventoryFlag     = "inventory"
	vmFlag            = "vm"
	verboseFlag       = "verbose"
)

// flags is what the command line says.
type flags struct {
	listen, control        string
	username, passwordFile string
	certOut, urlFile       string
	leaseTimeout           time.Duration
	leaseDelay             time.Duration
	leaseHost              string
	contentLength          bool
	cacheDir               string
	prepare                bool
	inventory              string
	vms                    []string
	verbose                bool
}

const longHelp = `Runs a vCenter simulator whose VMs have real disks. It prints the address of its API when it serves, and ends on SIGTERM or an interrupt.

VMs come from --vm, which can be repeated, and from a YAML file (--inventory). --vm takes pairs NAME=VALUE with commas in between:

  name=web              required; folder=shop/prod puts it into a folder
  cpus=2 memory=2048    memory in MiB
  firmware=efi          or bios; secureboot=true
  guest=ubuntu64Guest   a guest identifier of the vSphere API
  power=on              or off
  disk=FILE             a raw disk image, whose size is a multiple of 512 bytes; can be repeated
  mac=00:50:56:01:02:03 a network card with this address; can be repeated

The YAML file says the same, with more choices for disks and network cards:

  vms:
    - name: web
      folder: shop
      cpus: 2
      memory: 2048
      firmware: efi
      secureboot: true
      power: "on"
      disks:
        - {file: web.raw, bus: scsi, controller: pvscsi, mode: persistent, sharing: sharingNone, thick: false}
        - {file: data.raw, bus: sata}
      nics:
        - {mac: "00:50:56:01:02:03", model: vmxnet3, network: "VM Network"}

Relative file names in it are relative to the file. With --control, failures can be produced from outside; see the package
providers/vsphere/vcentersim for the requests.`

func newCommand() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "vcentersim",
		Short: "Run a vCenter simulator with real disks",
		Long:  longHelp,
		Example: `  vcentersim --vm name=web,power=on,disk=web.raw --vm name=db,disk=db.raw,mac=00:50:56:01:02:03 \
    --cert-out ca.pem --url-file url --prepare`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	set := cmd.Flags()
	set.StringVar(&f.listen, listenFlag, "127.0.0.1:0", "address to serve the API on; port 0 takes a free one")
	set.StringVar(&f.control, controlFlag, "", "loopback address of the control endpoint, which asks for no password; none if empty")
	set.StringVar(&f.username, usernameFlag, "user", "user name that can log in")
	set.StringVar(&f.passwordFile, passwordFileFlag, "", `file with the password, one line; without it the password is "pass"`)
	set.StringVar(&f.certOut, certOutFlag, "", "file to write the server's certificate to, as a CA file for clients")
	set.StringVar(&f.urlFile, urlFileFlag, "", "file to write the address of the API to, once it serves")
	set.DurationVar(&f.leaseTimeout, leaseTimeoutFlag, 300*time.Second, "how long an export lease lives without progress")
	set.DurationVar(&f.leaseDelay, leaseDelayFlag, 0, "how long an export lease takes to become ready")
	set.StringVar(&f.leaseHost, leaseHostFlag, "", `host name in the addresses of disks; "*" as a standalone ESXi host has it`)
	set.BoolVar(&f.contentLength, contentLengthFlag, false, "send disks with their length instead of in chunks")
	set.StringVar(&f.cacheDir, cacheDirFlag, "", "folder to keep encoded disks in while the simulator runs; the system's temporary one if empty")
	set.BoolVar(&f.prepare, prepareFlag, false, "encode all disks before serving, so that the first export does not wait for it")
	set.StringVar(&f.inventory, inventoryFlag, "", "YAML file with VMs")
	set.StringArrayVar(&f.vms, vmFlag, nil, "a VM, as pairs NAME=VALUE (see above); can be repeated")
	set.BoolVar(&f.verbose, verboseFlag, false, "log what the simulator does to standard error")
	return cmd
}

// run serves until ctx ends.
func run(ctx context.Context, f flags, out, errOut io.Writer) (err error) {
	// A file of a run before must not pass for this one's.
	if err := os.Remove(f.urlFile); f.urlFile != "" && err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, "--%s", urlFileFlag)
	}
	cfg, err := f.config(errOut)
	if err != nil {
		return err
	}
	sim, err := vcentersim.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.Close(ctx)) }()
	if f.prepare {
		if err := sim.Prepare(ctx); err != nil {
			return err
		}
	}
	if f.control != "" {
		stop, err := serveControl(ctx, f.control, sim, out)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := f.announce(sim, out); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (f flags) config(errOut io.Writer) (vcentersim.Config, error) {
	cfg := vcentersim.Config{
		Listen: f.listen, Username: f.username, Password: "pass",
		LeaseTimeout: f.leaseTimeout, LeaseDelay: f.leaseDelay, LeaseHost: f.leaseHost,
		ContentLength: f.contentLength, Dir: f.cacheDir,
	}
	if f.verbose {
		cfg.Log = slog.New(slog.NewTextHandler(errOut, nil))
	}
	if f.passwordFile != "" {
		text, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return cfg, fault.Wrap(err, "--%s", passwordFileFlag)
		}
		cfg.Password = strings.TrimRight(string(text), "\r\n")
	}
	specs, err := f.specs()
	if err != nil {
		return cfg, err
	}
	cfg.VMs, err = openVMs(specs)
	return cfg, err
}

// announce tells where the simulator serves. The address file comes last, so that whoever waits for it finds everything else.
func (f flags) announce(sim *vcentersim.Simulator, out io.Writer) error {
	if f.certOut != "" {
		if err := os.WriteFile(f.certOut, sim.Certificate(), 0o644); err != nil { //nolint:gosec // a certificate is public
			return fault.Wrap(err, "--%s", certOutFlag)
		}
	}
	if _, err := fmt.Fprintln(out, sim.URL()); err != nil {
		return err
	}
	if f.urlFile == "" {
		return nil
	}
	part := f.urlFile + ".part"
	if err := os.WriteFile(part, []byte(sim.URL()+"\n"), 0o600); err != nil {
		return fault.Wrap(err, "--%s", urlFileFlag)
	}
	return fault.Wrap(os.Rename(part, f.urlFile), "--%s", urlFileFlag)
}

// serveControl serves the control endpoint, on loopback only, until stop is called.
func serveControl(ctx context.Context, addr string, sim *vcentersim.Simulator, out io.Writer) (stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fault.As(fault.Unavailable, err, "--%s", controlFlag)
	}
	if at, ok := l.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		_ = l.Close()
		return nil, fault.New(fault.InvalidArgument, "--%s %s is not a loopback address; the endpoint asks for no password", controlFlag, addr)
	}
	srv := &http.Server{Handler: sim.Control(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends when stop closes it
	}()
	if _, err := fmt.Fprintf(out, "control http://%s\n", l.Addr()); err != nil {
		_ = srv.Close()
		return nil, err
	}
	return func() { _ = srv.Close(); <-done }, nil
}
