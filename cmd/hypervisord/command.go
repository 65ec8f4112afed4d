package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/version"
	providersall "github.com/hyperplane-project/hyperplane/providers/all"
	"github.com/hyperplane-project/hyperplane/server"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/libvirt"
)

// flags are the settings that can be given on the command line; those that were win over file and environment.
type flags struct {
	config, stateDir, socket, logLevel, driver, libvirtSocket, accel, addressFile string
	listen                                                                        []string
	checkConfig                                                                   bool
}

func newCommand() *cobra.Command {
	f := new(flags)
	c := &cobra.Command{
		Use:   "hypervisord",
		Short: "Run the VMs of this host and move VMs here from other platforms",
		Long: `hypervisord serves its API as gRPC, REST and SRPC on every listener. At its first start it makes a CA, a server
certificate, an admin certificate (admin.pem, admin.key) and an admin token (admin.token) below STATE-DIR/pki. Whoever may open
its Unix socket is administrator.

Settings come from the defaults, then the configuration file, then the environment (GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD,
GOVC_INSECURE, GOVC_TLS_CA_CERTS, DAEMON_ADDR, LOG_LEVEL, DOWNLOAD_WORKERS), then the flags.

Exit codes: 0 ended by SIGTERM or SIGINT after draining, 1 failed, 2 wrong flags or configuration.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		Version: version.Text(),
		RunE:    func(c *cobra.Command, _ []string) error { return run(c, f) },
	}
	c.AddCommand(newGuestFSCommand(), newIssueCertificateCommand())
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fault.As(fault.InvalidArgument, err, "flags") })
	s := c.Flags()
	s.StringVar(&f.config, "config", "", "configuration `file` (YAML)")
	s.StringVar(&f.stateDir, "state-dir", "", "`directory` of everything the daemon keeps (default /var/lib/hyperplane)")
	s.StringSliceVar(&f.listen, "listen", nil, "`address` to listen on, may be repeated (default :8080 and :6976)")
	s.StringVar(&f.socket, "socket", "", "admin socket `path`; \"none\" = no socket (default /run/hyperplane/hypervisord.sock)")
	s.StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	s.StringVar(&f.driver, "hypervisor", "", "libvirt, or fake to try the API without VMs (default libvirt)")
	s.StringVar(&f.libvirtSocket, "libvirt-socket", "", "libvirtd's socket `path` (default /run/libvirt/libvirt-sock)")
	s.StringVar(&f.accel, "accel", "", "auto, kvm or tcg (software emulation) (default auto)")
	s.StringVar(&f.addressFile, "address-file", "", "write the addresses listened on to this `file`, one a line, once they are served")
	s.BoolVar(&f.checkConfig, "check-config", false, "check the configuration and end")
	return c
}

func run(c *cobra.Command, f *flags) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	if f.checkConfig {
		_, err := fmt.Fprintln(c.OutOrStdout(), "configuration is valid")
		return err
	}
	log := newLog(cfg, c.ErrOrStderr())
	driver, err := openDriver(c.Context(), cfg.Hypervisor, log)
	if err != nil {
		return err
	}
	err = serve(c.Context(), cfg, log, driver, f.addressFile)
	if closed := driver.Close(); err == nil {
		err = closed
	}
	return err
}

func serve(ctx context.Context, cfg config.Config, log *slog.Logger, driver hypervisor.Driver, addressFile string) error {
	if cfg.EnableCBT {
		log.LogAttrs(ctx, slog.LevelWarn, "enable_cbt has no effect yet: incremental exports are not available")
	}
	s, err := server.New(ctx, cfg, server.Deps{
		Log: log, Driver: driver, Providers: providersall.Registry(), Formats: convertersall.Formats(), Version: version.Text(), Now: time.Now,
	})
	if err != nil {
		return err
	}
	listeners, err := s.Listen(ctx)
	if err != nil {
		return err
	}
	if addressFile != "" {
		if err := writeAddresses(addressFile, listeners); err != nil {
			return err
		}
	}
	return s.Run(ctx, listeners)
}

// writeAddresses writes a file that is there only when it is complete.
func writeAddresses(path string, l server.Listeners) error {
	var text bytes.Buffer
	for _, ln := range l.TCP {
		fmt.Fprintln(&text, ln.Addr())
	}
	if err := os.WriteFile(path+".partial", text.Bytes(), 0o600); err != nil {
		return fault.Wrap(err, "address file")
	}
	return fault.Wrap(os.Rename(path+".partial", path), "address file")
}

// load puts the flags that were given over the configuration.
func (f *flags) load() (config.Config, error) {
	cfg, err := config.Load(f.config, os.Getenv)
	if err != nil {
		return cfg, err
	}
	for value, into := range map[*string]*string{
		&f.stateDir: &cfg.StateDir, &f.socket: &cfg.Socket, &f.logLevel: &cfg.LogLevel, &f.driver: &cfg.Hypervisor.Driver,
		&f.libvirtSocket: &cfg.Hypervisor.Socket, &f.accel: &cfg.Hypervisor.Accel,
	} {
		if *value != "" {
			*into = *value
		}
	}
	if len(f.listen) > 0 {
		cfg.Listen = f.listen
	}
	if cfg.Socket == "none" {
		cfg.Socket = ""
	}
	return cfg, cfg.Validate()
}

func newLog(cfg config.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // Validate has seen it
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// openDriver makes the driver that the configuration names.
func openDriver(ctx context.Context, cfg config.Hypervisor, log *slog.Logger) (hypervisor.Driver, error) {
	if cfg.Driver == "fake" {
		log.LogAttrs(ctx, slog.LevelWarn, "the hypervisor is a fake: VMs are only pretended")
		_, driver := fake.New(fake.Options{})
		return driver, nil
	}
	accel := map[string]libvirt.Accel{"auto": libvirt.AccelAuto, "kvm": libvirt.AccelKVM, "tcg": libvirt.AccelTCG}[cfg.Accel]
	return libvirt.Open(ctx, libvirt.Options{Socket: cfg.Socket, RunDir: cfg.RunDir, Accel: accel, Log: log})
}
