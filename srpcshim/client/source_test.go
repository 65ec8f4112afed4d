package client_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/gob"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

// anyRequest has the fields of all requests that a stock destination makes.
type anyRequest struct {
	AccessToken                             []byte
	BlockOrder                              uint8
	DhcpTimeout                             time.Duration
	Enable, GetExtraFiles, IgnoreExtraFiles bool
	IpAddress                               net.IP
	NumBlocks                               uint64
	VolumeIndex                             uint
}

// said is one call as it was recorded.
type said struct {
	method   string
	requests []anyRequest
	replies  []srpctest.Part
	blocks   uint64
}

// recorded returns what a stock destination and a stock source said: the lines of the connection whose client was a hypervisor, and the calls in them.
func recorded(t *testing.T, name string) (lines []srpctest.Line, calls []*said) {
	t.Helper()
	r := srpctest.ReadRecording(t, filepath.Join(srpctest.Recordings(t, "../.."), name+".jsonl"))
	last := len(r.Connections)
	var decode *gob.Decoder
	var in bytes.Buffer
	for _, line := range r.Lines {
		if line.Conn != last {
			continue
		}
		lines = append(lines, line)
		for _, p := range line.Decoded {
			switch {
			case p.Kind == "method":
				calls = append(calls, &said{method: p.Text})
				decode = gob.NewDecoder(&in)
			case line.FromClient() && p.Kind == "message":
				in.Write(line.Data[p.At-line.Off:][:p.Len])
				var req anyRequest
				if err := decode.Decode(&req); err != nil {
					t.Fatal(err)
				}
				calls[len(calls)-1].requests = append(calls[len(calls)-1].requests, req)
				calls[len(calls)-1].blocks = req.NumBlocks
			case p.Kind == "message":
				calls[len(calls)-1].replies = append(calls[len(calls)-1].replies, p)
			}
		}
	}
	return lines, calls
}

// source says what a stock source has said, whatever it hears, and keeps what it hears. Calls may come on several connections, one after the other.
type source struct {
	mu    sync.Mutex
	calls [][]srpctest.Line // to come
	heard []*said
}

// serve speaks on one connection.
func (s *source) serve(conn net.Conn) error {
	in := bufio.NewReader(conn)
	for {
		method, err := in.ReadString('\n')
		if err != nil {
			return nil //nolint:nilerr // the client has no more to say here
		}
		s.mu.Lock()
		if len(s.calls) == 0 {
			s.mu.Unlock()
			return fmt.Errorf("%s was not recorded", method)
		}
		lines, call := s.calls[0], &said{method: method[:len(method)-1]}
		s.calls, s.heard = s.calls[1:], append(s.heard, call)
		s.mu.Unlock()
		if err := call.replay(conn, in, lines); err != nil {
			return err
		}
	}
}

// replay speaks for one call, whose method was read.
func (c *said) replay(conn net.Conn, in *bufio.Reader, lines []srpctest.Line) error {
	decode := gob.NewDecoder(in)
	for _, line := range lines {
		if !line.FromClient() {
			if _, err := conn.Write(line.Data); err != nil {
				return err
			}
			continue
		}
		for _, p := range line.Decoded {
			switch p.Kind {
			case "method":
			case "message":
				var req anyRequest
				if err := decode.Decode(&req); err != nil {
					return err
				}
				c.requests = append(c.requests, req)
			default:
				if _, err := io.CopyN(io.Discard, in, int64(p.Len)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// startSource starts a source that says what the lines say.
func startSource(t *testing.T, a *fakepeer.Authority, lines []srpctest.Line) (*source, string) {
	t.Helper()
	s := new(source)
	for _, line := range lines {
		if line.FromClient() && line.Decoded[0].Kind == "method" {
			s.calls = append(s.calls, nil)
		}
		s.calls[len(s.calls)-1] = append(s.calls[len(s.calls)-1], line)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert := a.Peer()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				if _, err := srpctest.Connect(conn, bufio.NewReaderSize(onlyReader{conn}, 16), "HTTP/1.0 200 Connected to Go SRPC\n\n"); err != nil {
					t.Error(err)
				}
				if err := s.serve(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // accept sees it
		all.Wait()
	})
	return s, listener.Addr().String()
}

// onlyReader reads one byte at a time, so that a reader around it takes nothing of what follows.
type onlyReader struct{ io.Reader }

func (r onlyReader) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }
