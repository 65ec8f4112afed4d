package tftp

import (
	"encoding/binary"
	"net"
	"strconv"
	"time"
)

const (
	defaultBlock   = 512
	minBlock       = 8
	maxBlock       = 1468 // fits into an Ethernet frame, whatever the client would take
	defaultTimeout = time.Second
	// attempts is how often one packet is sent.
	attempts = 6
)

// transfer sends one file to one client.
type transfer struct {
	conn      net.PacketConn
	to        net.Addr
	blockSize int
	timeout   time.Duration
}

// send sends a file, after the options that were agreed on.
func (t *transfer) send(content []byte, req request) {
	if agreed := t.agree(req.options, len(content)); agreed != nil && !t.deliver(agreed, 0) {
		return
	}
	// Block numbers go round after 65535, as every client of large files expects.
	for block := uint16(1); ; block++ {
		piece := content[:min(t.blockSize, len(content))]
		if !t.deliver(append(header(opData, block), piece...), block) || len(piece) < t.blockSize {
			return // the last block is one that is not full
		}
		content = content[len(piece):]
	}
}

// agree takes over the options that are understood and returns the packet that says so, or nil if there are none.
func (t *transfer) agree(options map[string]string, size int) []byte {
	p := binary.BigEndian.AppendUint16(nil, opOptionAck)
	option := func(name, value string) { p = append(append(append(append(p, name...), 0), value...), 0) }
	if n, err := strconv.Atoi(options["blksize"]); err == nil && n >= minBlock && n <= 65464 {
		t.blockSize = min(n, maxBlock)
		option("blksize", strconv.Itoa(t.blockSize))
	}
	if _, asked := options["tsize"]; asked {
		option("tsize", strconv.Itoa(size))
	}
	if n, err := strconv.Atoi(options["timeout"]); err == nil && n >= 1 && n <= 255 {
		t.timeout = min(time.Duration(n)*time.Second, 5*time.Second)
		if time.Duration(n)*time.Second == t.timeout {
			option("timeout", strconv.Itoa(n))
		}
	}
	if len(p) == 2 {
		return nil
	}
	return p
}

// deliver sends a packet until it is acknowledged and says whether it was.
func (t *transfer) deliver(p []byte, block uint16) bool {
	for range attempts {
		if _, err := t.conn.WriteTo(p, t.to); err != nil {
			return false
		}
		if acknowledged, ended := t.await(block); ended {
			return acknowledged
		}
	}
	return false
}

// await waits for the acknowledgement of a block. ended is false if it did not come in time. An acknowledgement of an earlier block is no reason to send
// again: that would double every packet from then on (RFC 1123, 4.2.3.1).
func (t *transfer) await(block uint16) (acknowledged, ended bool) {
	buf := make([]byte, 512)
	if err := t.conn.SetReadDeadline(time.Now().Add(t.timeout)); err != nil {
		return false, true
	}
	for {
		n, from, err := t.conn.ReadFrom(buf)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // the network's errors are not wrapped
			return false, false
		}
		switch {
		case err != nil:
			return false, true
		case from.String() != t.to.String():
			continue // somebody else's
		case isError(buf[:n]):
			return false, true
		}
		if got, ok := parseAck(buf[:n]); ok && got == block {
			return true, true
		}
	}
}

// fail tells the client why there is no file. It is not acknowledged.
func (t *transfer) fail(code uint16, text string) {
	_, _ = t.conn.WriteTo(append(append(header(opError, code), text...), 0), t.to) // the client gives up by itself otherwise
}
