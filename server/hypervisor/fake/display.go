package fake

import (
	"encoding/binary"
	"io"
	"net"
)

// display is one connection to a machine's VNC server. The server speaks the RFB protocol (RFC 6143) of a blank screen: the
// handshake without authentication, and a black rectangle whenever the client asks for an update.
type display struct {
	server, client net.Conn
	pixel          int // bytes that the client wants for one
}

const displayWidth, displayHeight = 64, 48

// openDisplay starts a server for one client. The host's mutex is held.
func (d *Driver) openDisplay(m *machine) io.ReadWriteCloser {
	screen := &display{pixel: 4}
	screen.server, screen.client = net.Pipe()
	if m.displays == nil {
		m.displays = make(map[*display]struct{})
	}
	m.displays[screen] = struct{}{}
	name := m.spec.Name
	d.displays.Go(func() {
		_ = screen.serve(name) // it fails when the client has gone or does not speak RFB
		screen.close()
		d.host.mu.Lock()
		defer d.host.mu.Unlock()
		delete(m.displays, screen)
	})
	return screen.client
}

func (d *display) close() { _ = d.server.Close() }

func (d *display) serve(name string) error {
	if err := d.handshake(name); err != nil {
		return err
	}
	for {
		kind, err := d.read(1)
		if err != nil {
			return err
		}
		if err := d.answer(kind[0]); err != nil {
			return err
		}
	}
}

// handshake goes from ProtocolVersion to ServerInit (RFC 6143, section 7.1 to 7.3).
func (d *display) handshake(name string) error {
	const version, noAuthentication = "RFB 003.008\n", 1
	steps := []struct {
		say  []byte
		hear int
	}{
		{[]byte(version), len(version)},
		{[]byte{1, noAuthentication}, 1}, // one security type; the client chooses it
		{[]byte{0, 0, 0, 0}, 1},          // SecurityResult ok; ClientInit
	}
	for _, step := range steps {
		if _, err := d.server.Write(step.say); err != nil {
			return err
		}
		if _, err := d.read(step.hear); err != nil {
			return err
		}
	}
	init := binary.BigEndian.AppendUint16(nil, displayWidth)
	init = binary.BigEndian.AppendUint16(init, displayHeight)
	// 32 bits a pixel, depth 24, little-endian, true colour, 8 bits each of red, green and blue at 16, 8 and 0; padding.
	init = append(init, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0)
	init = binary.BigEndian.AppendUint32(init, uint32(len(name)))
	_, err := d.server.Write(append(init, name...))
	return err
}

// answer reads the rest of a client's message of the given kind (RFC 6143, section 7.5) and obeys it.
func (d *display) answer(kind byte) error {
	switch kind {
	case 0: // SetPixelFormat
		b, err := d.read(19) // padding, then the format, which begins with the bits of a pixel
		if err == nil {
			d.pixel = int(b[3]) / 8
		}
		return err
	case 2: // SetEncodings
		return d.skipCounted(3, func(head []byte) int { return 4 * int(binary.BigEndian.Uint16(head[1:])) })
	case 3: // FramebufferUpdateRequest
		if _, err := d.read(9); err != nil {
			return err
		}
		return d.sendScreen()
	case 4: // KeyEvent
		_, err := d.read(7)
		return err
	case 5: // PointerEvent
		_, err := d.read(5)
		return err
	case 6: // ClientCutText
		return d.skipCounted(7, func(head []byte) int { return int(binary.BigEndian.Uint32(head[3:])) })
	default:
		return io.ErrUnexpectedEOF
	}
}

// sendScreen sends the whole screen, black, in raw encoding.
func (d *display) sendScreen() error {
	update := []byte{0, 0, 0, 1, 0, 0, 0, 0} // FramebufferUpdate of one rectangle at 0,0
	update = binary.BigEndian.AppendUint16(update, displayWidth)
	update = binary.BigEndian.AppendUint16(update, displayHeight)
	update = append(update, 0, 0, 0, 0)
	_, err := d.server.Write(append(update, make([]byte, displayWidth*displayHeight*d.pixel)...))
	return err
}

// skipCounted reads a head and drops as many bytes as it says.
func (d *display) skipCounted(head int, count func([]byte) int) error {
	b, err := d.read(head)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, d.server, int64(count(b)))
	return err
}

func (d *display) read(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(d.server, b)
	return b, err
}
