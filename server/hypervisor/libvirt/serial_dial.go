package libvirt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/serial"
)

const (
	// historyBytes is how much of the log a session reads first.
	historyBytes = 64 << 10
	// settle is the time in which what the guest has said reaches the log: QEMU hands it to virtlogd, which writes it.
	settle = 20 * time.Millisecond
)

// serialSource finds the socket and the log of a live machine's port 0.
func (d *Driver) serialSource(ctx context.Context, machine string) (src serialSource, err error) {
	state, _, err := d.see(ctx, machine, func(c *conn, dom golibvirt.Domain) error {
		live, err := readXML(c, dom, 0)
		if err == nil {
			src = parseSerial(live)
		}
		return err
	})
	switch {
	case err != nil:
		return src, err
	case !state.Alive():
		return src, fault.New(fault.FailedPrecondition, "machine %s is %s and has no serial port", machine, state)
	case src.socket == "":
		return src, fault.New(fault.Unimplemented, "machine %s has no serial port on a Unix socket; it was not made by this driver", machine)
	}
	return src, nil
}

// serialSource is where a serial port's bytes come from.
type serialSource struct{ socket, log string }

func parseSerial(d *libvirtxml.Domain) (src serialSource) {
	if d.Devices == nil {
		return src
	}
	for _, s := range d.Devices.Serials {
		if (s.Target != nil && s.Target.Port != nil && *s.Target.Port != 0) || s.Source == nil || s.Source.UNIX == nil {
			continue
		}
		src.socket = s.Source.UNIX.Path
		if s.Log != nil {
			src.log = s.Log.File
		}
		return src
	}
	return src
}

// dialSerial connects to a port and joins what the log has from before with what comes now.
func dialSerial(ctx context.Context, src serialSource) (*openPort, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", src.socket)
	if err != nil {
		return nil, classify(err, "connect to the serial port")
	}
	live, err := readSettled(conn)
	if err != nil {
		return nil, errors.Join(classify(err, "read the serial port"), conn.Close())
	}
	history, err := readTail(src.log)
	if err != nil {
		return nil, errors.Join(fault.As(fault.Internal, err, "read the serial port's log"), conn.Close())
	}
	open := &openPort{port: serial.New(conn), conn: conn}
	open.port.Output(splice(history, live))
	return open, nil
}

// readSettled reads what the guest says until the log has what it said before.
func readSettled(conn net.Conn) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(settle)); err != nil {
		return nil, err
	}
	live, err := io.ReadAll(io.LimitReader(conn, historyBytes))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, err
	}
	return live, conn.SetReadDeadline(time.Time{})
}

// splice joins the log with live output, which may begin at any place of the log's end: QEMU writes to both.
func splice(history, live []byte) []byte {
	overlap := min(len(history), len(live))
	for ; overlap > 0; overlap-- {
		if bytes.HasSuffix(history, live[:overlap]) {
			break
		}
	}
	return append(history, live[overlap:]...)
}

// readTail reads the end of a log. A port without one has no history.
func readTail(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, info.Size()-historyBytes), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}
