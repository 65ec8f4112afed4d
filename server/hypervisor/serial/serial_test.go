package serial_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/serial"
)

func connect(t *testing.T, p *serial.Port, takeover bool) *serial.Session {
	t.Helper()
	s, err := p.Connect(takeover)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readN(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHistoryThenLive(t *testing.T) {
	t.Parallel()
	p := serial.New(io.Discard)
	p.Output([]byte("before "))
	s := connect(t, p, false)
	p.Output([]byte("after"))
	if got := readN(t, s, 12); got != "before after" {
		t.Fatalf("got %q", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	p := serial.New(io.Discard)
	for range 100 {
		p.Output([]byte(strings.Repeat("x", 4<<10)))
	}
	p.Output([]byte("end"))
	s := connect(t, p, false)
	p.Close()
	got, err := io.ReadAll(s)
	if err != nil || len(got) != 64<<10 || !bytes.HasSuffix(got, []byte("end")) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestLaggingReaderLosesTheOldest(t *testing.T) {
	t.Parallel()
	p := serial.New(io.Discard)
	s := connect(t, p, false)
	for range 1000 {
		p.Output([]byte(strings.Repeat("x", 4<<10)))
	}
	p.Output([]byte("end"))
	p.Close()
	got, err := io.ReadAll(s)
	if err != nil || len(got) < 1<<20 || len(got) > 2<<20 || !bytes.HasSuffix(got, []byte("end")) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestReadWaits(t *testing.T) {
	t.Parallel()
	p := serial.New(io.Discard)
	s := connect(t, p, false)
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 10)
		n, _ := s.Read(b)
		got <- string(b[:n])
	}()
	p.Output([]byte("hi"))
	if text := <-got; text != "hi" {
		t.Fatalf("got %q", text)
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	var in bytes.Buffer
	p := serial.New(&in)
	s := connect(t, p, false)
	if _, err := io.WriteString(s, "ls\n"); err != nil || in.String() != "ls\n" {
		t.Fatalf("guest got %q, %v", &in, err)
	}
	p.Close()
	if _, err := io.WriteString(s, "x"); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("write to a stopped machine: %v", err)
	}
}

func TestOneSession(t *testing.T) {
	t.Parallel()
	p := serial.New(io.Discard)
	first := connect(t, p, false)
	if _, err := p.Connect(false); !fault.Is(err, fault.FailedPrecondition) {
		t.Fatalf("second session: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	connect(t, p, false)
}

func TestTakeoverEndsTheFirst(t *testing.T) {
	t.Parallel()
	p := serial.New(io.Discard)
	first := connect(t, p, false)
	ended := make(chan error, 1)
	go func() {
		_, err := first.Read(make([]byte, 1))
		ended <- err
	}()
	second := connect(t, p, true)
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Fatalf("the first read %v", err)
	}
	if _, err := first.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("the first wrote: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	p.Output([]byte("for two"))
	if got := readN(t, second, 7); got != "for two" {
		t.Fatalf("the second read %q", got)
	}
}

func TestClosedPort(t *testing.T) {
	t.Parallel()
	p := serial.New(io.Discard)
	p.Close()
	if _, err := p.Connect(false); !fault.Is(err, fault.FailedPrecondition) {
		t.Fatalf("got %v", err)
	}
}
