package libvirt

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// What follows is the part of libvirt's RPC (docs/kbase/internals/rpc.rst, src/remote/remote_protocol.x) that reads a stream. go-libvirt mixes up a call's
// reply with the stream's first bytes, which libvirtd may send before it, and then waits for ever.
const (
	rpcProgram, rpcVersion = 0x20008086, 1

	procConnectOpen, procAuthList          = 1, 66
	procStorageVolDownload, procScreenshot = 209, 211
	typeCall, typeReply, typeStream        = 0, 1, 3
	statusOK, statusError, statusContinue  = 0, 1, 2
	rpcHeader, maxPacket                   = 28, 32 << 20
)

// message is the arguments of a call in XDR (RFC 4506).
type message []byte

func (m message) number(n uint32) message { return binary.BigEndian.AppendUint32(m, n) }

func (m message) long(n uint64) message { return binary.BigEndian.AppendUint64(m, n) }

func (m message) text(s string) message {
	m = append(m.number(uint32(len(s))), s...)
	return append(m, make([]byte, -len(s)&3)...)
}

func screenshotOf(dom golibvirt.Domain) message {
	return append(message(nil).text(dom.Name), dom.UUID[:]...).number(uint32(dom.ID)).number(0).number(0)
}

func downloadOf(v golibvirt.StorageVol, offset, length uint64) message {
	return message(nil).text(v.Pool).text(v.Name).text(v.Key).long(offset).long(length).number(0)
}

// readStream makes a call on a connection of its own and writes the stream that it begins to w. Errors of w are returned as they are.
func (d *Driver) readStream(ctx context.Context, proc uint32, args message, w io.Writer) error {
	if d.queries.isClosed() {
		return errClosed()
	}
	raw, err := new(net.Dialer).DialContext(ctx, "unix", d.opts.Socket)
	if err != nil {
		return classify(err, "libvirt at %s cannot be reached", d.opts.Socket)
	}
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	defer raw.Close() //nolint:errcheck // libvirtd ends the stream with the connection
	err = stream(raw, proc, args, w)
	if ctx.Err() != nil {
		return classify(ctx.Err(), "a call to libvirt was stopped")
	}
	return err
}

func stream(rw io.ReadWriter, proc uint32, args message, w io.Writer) error {
	open := message(nil).number(1).text(string(connectURI)).number(0) // an optional text, which is there, and flags
	for i, call := range []struct {
		proc uint32
		args message
	}{{procAuthList, nil}, {procConnectOpen, open}, {proc, args}} {
		if err := send(rw, call.proc, typeCall, uint32(i), statusOK, call.args); err != nil {
			return err
		}
		if call.proc == proc {
			break
		}
		if _, err := receive(rw); err != nil {
			return err
		}
	}
	for {
		p, err := receive(rw)
		switch {
		case err != nil:
			return err
		case p.kind != typeStream: // the call's reply
		case len(p.payload) == 0: // the end, which libvirtd marks so with either status
			return nil
		default:
			if _, err := w.Write(p.payload); err != nil {
				return err
			}
		}
	}
}

type packet struct {
	kind    uint32
	payload []byte
}

func send(w io.Writer, proc, kind, serial, status uint32, payload message) error {
	m := message(nil).number(uint32(rpcHeader + len(payload))).number(rpcProgram).number(rpcVersion).number(proc).number(kind).number(serial).number(status)
	_, err := w.Write(append(m, payload...))
	return err
}

var errPacket = errors.New("libvirt sent what is no packet of its protocol")

func receive(r io.Reader) (packet, error) {
	var head [rpcHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return packet{}, err
	}
	field := func(i int) uint32 { return binary.BigEndian.Uint32(head[4*i:]) }
	length := field(0)
	if length < rpcHeader || length > maxPacket || field(1) != rpcProgram {
		return packet{}, errPacket
	}
	p := packet{field(4), make([]byte, length-rpcHeader)}
	if _, err := io.ReadFull(r, p.payload); err != nil {
		return packet{}, err
	}
	if field(6) == statusError {
		return packet{}, parseError(p.payload)
	}
	return p, nil
}

// parseError reads the beginning of a remote_error: code, domain and, if it is there, a text.
func parseError(b []byte) error {
	if len(b) < 16 {
		return errPacket
	}
	e := golibvirt.Error{Code: binary.BigEndian.Uint32(b)}
	if length := binary.BigEndian.Uint32(b[12:]); binary.BigEndian.Uint32(b[8:]) == 1 && uint64(length) <= uint64(len(b)-16) {
		e.Message = string(b[16 : 16+length])
	}
	return e
}

// written keeps a writer's error, to tell it from those of the connection.
type written struct {
	io.Writer
	failed error
}

// Write implements io.Writer.
func (w *written) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		w.failed = fault.Wrap(err, "write what was read")
	}
	return n, err
}
