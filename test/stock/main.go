// Command stock runs the programs of the Dominator project against hypervisord on the fake hypervisor: nearly all that vm-control and hyper-control can say to a
// hypervisor, and a fleet manager with two hosts between which VMs move. The programs are not part of this project: whoever has them says where.
//
// It listens on port 6976 of loopback addresses, so it is run in a network namespace of its own (make interop-stock).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // nobody calls
	bin := flag.String("bin", "", "`directory` with vm-control, hyper-control and fleet-manager")
	flag.Parse()
	err := run(ctx, *bin)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop-stock:", err)
		os.Exit(1)
	}
}

// lab is what the steps are done with.
type lab struct {
	dir, bin     string
	out          io.Writer
	done, failed int
}

func run(ctx context.Context, bin string) (err error) {
	for _, p := range []string{"vm-control", "hyper-control", "fleet-manager"} {
		if st, err := os.Stat(filepath.Join(bin, p)); bin == "" || err != nil || st.Mode()&0o111 == 0 {
			return fmt.Errorf("no program %s in directory %q: give STOCK_BIN=DIRECTORY with vm-control, hyper-control and fleet-manager of the Dominator project", p, bin)
		}
	}
	l := &lab{bin: bin, out: os.Stdout}
	if l.dir, err = os.MkdirTemp("", "hp-stock-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(l.dir)) }()
	if err := l.furnish(ctx); err != nil {
		return err
	}
	if err := l.single(ctx); err != nil {
		return err
	}
	if err := l.fleet(ctx); err != nil {
		return err
	}
	if l.failed > 0 {
		return fmt.Errorf("%d of %d steps went wrong", l.failed, l.done)
	}
	_, err = fmt.Fprintf(l.out, "%d steps, all well\n", l.done)
	return err
}

// furnish makes the site's certificates and the files that commands upload.
func (l *lab) furnish(ctx context.Context) error {
	pki := l.path("pki")
	for _, args := range []string{
		"ca", "identity-ca", "server 127.0.0.1 127.0.0.2 127.0.10.1 127.0.10.2 --out {dir}/pki --method Hypervisor.PrepareVmForMigration --method PeerService.*" +
			" --method VmTransferService.PrepareVmForMigration",
		"user admin --method *.* --out {dir}/admin", "user alice --identity --group team-a --out {dir}/alice", "user bob --identity --out {dir}/bob",
		"user fleet --out {dir}/fleet --method Hypervisor.ChangeAddressPool --method Hypervisor.ChangeOwners --method Hypervisor.GetUpdates --method Hypervisor.UpdateSubnets",
	} {
		words := strings.Fields(strings.ReplaceAll(args, "{dir}", l.dir))
		if _, err := proc.Run(ctx, nil, "bin/hyperctl", append(append([]string{"cert"}, words...), "--dir", pki)...); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"boot.raw": "a boot sector", "new.raw": "a new root", "user-data": "#!/bin/sh\necho hello\n", "images/url.raw": "by URL",
		"topology/lab/subnets.json": `[{"Id":"prod","IpGateway":"10.77.0.1","IpMask":"255.255.255.0","DomainNameServers":["10.77.0.1"],"Manage":true}]`,
		"topology/lab/machines.json": `[{"Hostname":"127.0.10.1","HostIpAddress":"127.0.10.1","HostMacAddress":"52:54:00:aa:00:01"},
			{"Hostname":"127.0.10.2","HostIpAddress":"127.0.10.2","HostMacAddress":"52:54:00:aa:00:02"}]`,
	} {
		if err := os.MkdirAll(filepath.Dir(l.path(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(l.path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// daemon starts a host that listens at addresses, and returns when it can be reached.
func (l *lab) daemon(ctx context.Context, name, more string, addresses ...string) (*proc.Program, error) {
	if err := os.MkdirAll(l.path(name+"/more"), 0o755); err != nil {
		return nil, err
	}
	pki := l.path("pki") + "/"
	config := fmt.Sprintf("hypervisor: {driver: fake}\nclient_ca_file: %sCA.pem\nidentity_ca_file: %sIdentityCA.pem\ncert_file: %scert.pem\nkey_file: %skey.pem\n"+
		"peers: {cert_file: %scert.pem, key_file: %skey.pem, ca_file: %sCA.pem}\nimage_dir: %s\nmore_volume_dirs: [%s]\npower_off_command: [touch, %s]\nlog_level: error\n%s",
		pki, pki, pki, pki, pki, pki, pki, l.path("images"), l.path(name+"/more"), l.path("off"), more)
	if err := os.WriteFile(l.path(name+"/config.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	address := l.path(name + "/address")
	args := []string{"--config", l.path(name + "/config.yaml"), "--state-dir", l.path(name + "/state"), "--socket", l.path(name + "/sock"), "--address-file", address}
	for _, a := range addresses {
		args = append(args, "--listen", a+":6976")
	}
	d, err := proc.Start(os.Stderr, nil, "bin/hypervisord", args...)
	if err != nil {
		return nil, err
	}
	_, err = d.File(ctx, address)
	return d, err
}

// patience is how long a command may take.
const patience = 30 * time.Second
