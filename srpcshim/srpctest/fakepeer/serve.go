package fakepeer

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/asn1"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
)

// session is a connection after CONNECT and TLS.
type session struct {
	peer    *Peer
	conn    net.Conn
	in      *bufio.Reader
	methods []string // of the certificate, unless the client gave them up
	call    *Call
	fault   Fault
}

// errEnd ends a connection.
var errEnd = errors.New("the connection ends")

// serve speaks with a client until one of the two ends it.
func (p *Peer) serve(ctx context.Context, conn net.Conn) {
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	words := strings.Fields(line)
	if len(words) != 3 || words[0] != "CONNECT" || words[2] != "HTTP/1.0" {
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request") // the client may have gone
		return
	}
	for line != "\n" && line != "\r\n" {
		if line, err = in.ReadString('\n'); err != nil {
			return
		}
	}
	file, query, _ := strings.Cut(words[1], "?")
	if file != "/_go_TLS_SRPC_/" {
		p.problem("CONNECT %s", words[1])
		_, _ = io.WriteString(conn, "HTTP/1.0 404 Not Found\r\n\r\n") // the client may have gone
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.0 200 Connected to Go SRPC\n\n"); err != nil {
		return
	}
	secured := tls.Server(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{p.opts.Certificate}, ClientCAs: p.opts.Trust, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if secured.HandshakeContext(ctx) != nil {
		return
	}
	s := &session{peer: p, conn: secured, in: bufio.NewReader(secured)}
	if query != "doNotUseMethodPowers=true" {
		s.methods = methodsOf(secured)
	}
	for s.next() == nil {
		continue
	}
}

// methodsOf returns the methods that the client's certificate lists: a SEQUENCE OF strings.
func methodsOf(conn *tls.Conn) (methods []string) {
	for _, e := range conn.ConnectionState().PeerCertificates[0].Extensions {
		if e.Id.String() == "1.3.6.1.4.1.9586.100.7.1" {
			_, _ = asn1.Unmarshal(e.Value, &methods) // a wrong list is none
		}
	}
	return methods
}

// power says whether the caller has method power on a method of the service.
func (s *session) power(method string) bool {
	for _, pattern := range s.methods {
		if ok, _ := path.Match(pattern, "Hypervisor."+method); ok {
			return true
		}
	}
	return false
}

// next serves one call.
func (s *session) next() error {
	line, err := s.in.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return s.line("")
	}
	if line == ".LocalUpgradeToUnix" {
		s.peer.problem("the client wants to go over to a Unix socket")
	}
	name, ok := strings.CutPrefix(line, "Hypervisor.")
	handler, found := s.handlers()[name]
	if !ok || !found {
		s.peer.problem("%s was called", line)
		return s.line("unknown service: " + line)
	}
	s.fault = s.peer.fault(name)
	s.begin(name)
	switch {
	case s.fault.Kind == Refuse:
		return s.refuse(s.fault.Text)
	case name == "PrepareVmForMigration" && !s.power(name):
		return s.refuse("access to method denied")
	}
	if err := s.line(""); err != nil {
		return err
	}
	return handler()
}

// begin records a call before anything is answered, so that who has an answer finds it there.
func (s *session) begin(name string) {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	s.call = &Call{Method: name, Powers: len(s.methods) > 0}
	s.peer.calls = append(s.peer.calls, s.call)
}

// note changes the record of the call under way. Only its session does that, so that the session itself may read it without the lock.
func (s *session) note(change func(*Call)) {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	change(s.call)
}

func (s *session) failed(text string) { s.note(func(c *Call) { c.Err = text }) }

func (s *session) refuse(text string) error {
	s.failed(text)
	return s.line(text)
}

func (s *session) line(text string) error {
	_, err := io.WriteString(s.conn, text+"\n")
	return err
}

func (s *session) read(message any) error { return gob.NewDecoder(s.in).Decode(message) }

// broken does what a fault of the connection wants, or nothing.
func (s *session) broken() error {
	s.failed(fmt.Sprintf("fault %d", s.fault.Kind))
	switch s.fault.Kind {
	case Cut:
		return errEnd
	case Hang:
		<-s.peer.done
		return errEnd
	case Garbage:
		_, err := s.conn.Write([]byte("\n\x07\xff\x82\x00\x04\xff\xff\xff\xf8\xff\xff\xff\xff\xff\xff\xff\xff"))
		return errors.Join(err, errEnd)
	default:
		s.failed("")
		return nil
	}
}

// reply answers a request/reply method. do does what was asked for and returns the reply's error.
func (s *session) reply(do func() string, reply func(text string) any) error {
	if err := s.broken(); err != nil {
		return err
	}
	switch s.fault.Kind {
	case Deny:
		return s.refuse(s.fault.Text)
	case Fail:
		s.failed(s.fault.Text)
	default:
		s.failed(do())
	}
	if s.fault.Kind == Lose || s.fault.Kind == Linger {
		return errEnd
	}
	if err := s.line(""); err != nil {
		return err
	}
	return gob.NewEncoder(s.conn).Encode(reply(s.call.Err))
}
