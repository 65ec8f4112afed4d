package libvirt

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// machineFiles is the folder of one machine below the driver's run directory.
type machineFiles string

func (f machineFiles) serial() string    { return filepath.Join(string(f), "serial") }
func (f machineFiles) serialLog() string { return filepath.Join(string(f), "serial.log") }
func (f machineFiles) display() string   { return filepath.Join(string(f), "vnc") }

// Sockets of a migration, of this program at the source and of QEMU at the destination. Their names are no longer than that of the serial port.
func (f machineFiles) memory() string { return filepath.Join(string(f), "memory") }
func (f machineFiles) disks() string  { return filepath.Join(string(f), "disks") }

func (o Options) files(uuid string) machineFiles {
	return machineFiles(filepath.Join(o.RunDir, uuid))
}

// nvram is the file with a machine's UEFI variables. It bears the UUID because names change.
func (o Options) nvram(uuid string) string { return filepath.Join(o.NVRAMDir, uuid+"_VARS.fd") }

// prepare makes the folder ready for a run of the machine. The log of the run before is kept under another name.
func (f machineFiles) prepare(who owner) error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return fault.As(fault.Internal, err, "make the machine's run directory")
	}
	if who.known {
		if err := os.Chown(string(f), who.uid, who.gid); err != nil {
			return fault.As(fault.Internal, err, "give the machine's run directory to QEMU's user")
		}
	}
	err := os.Rename(f.serialLog(), f.serialLog()+".previous")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.As(fault.Internal, err, "keep the serial log of the run before")
	}
	return nil
}

func (f machineFiles) remove() error {
	return fault.As(fault.Internal, os.RemoveAll(string(f)), "remove the machine's run directory")
}

// owner is the user that QEMU runs as, who makes the VNC socket.
type owner struct {
	known    bool
	uid, gid int
}

// askOwner finds QEMU's user in libvirt's capabilities.
func (d *Driver) askOwner(ctx context.Context) (owner, error) {
	var text string
	err := d.queries.do(ctx, func(c *conn) (err error) {
		text, err = c.ConnectGetCapabilities()
		return classify(err, "ask for libvirt's capabilities")
	})
	if err != nil {
		return owner{}, err
	}
	return parseOwner(text)
}

// parseOwner reads the base label of the "dac" security model, like "+64055:+109". Without that model nobody changes owners.
func parseOwner(capabilities string) (owner, error) {
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return owner{}, fault.As(fault.Internal, err, "read libvirt's capabilities")
	}
	for _, model := range caps.Host.SecModel {
		if model.Name != "dac" || len(model.Labels) == 0 {
			continue
		}
		user, group, _ := strings.Cut(model.Labels[0].Value, ":")
		uid, err := strconv.Atoi(strings.TrimPrefix(user, "+"))
		gid, err2 := strconv.Atoi(strings.TrimPrefix(group, "+"))
		if err := errors.Join(err, err2); err != nil {
			return owner{}, fault.As(fault.Internal, err, "read QEMU's user %q", model.Labels[0].Value)
		}
		return owner{known: true, uid: uid, gid: gid}, nil
	}
	return owner{}, nil
}
