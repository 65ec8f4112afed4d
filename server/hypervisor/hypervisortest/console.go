package hypervisortest

import (
	"errors"
	"io"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func serialIsAPipe(t *suite) {
	spec := t.bootable()
	c := t.boot(spec)
	c.say("echo hello")
	if line := c.await("ECHO:"); line != "ECHO:hello" {
		t.Errorf("the guest answered %q", line)
	}
	long := strings.Repeat("0123456789", 20)
	c.say("echo " + long)
	if line := c.await("ECHO:"); line != "ECHO:"+long {
		t.Errorf("the guest answered %q", line)
	}
	t.must(c.conn.Close())

	// A later session is told what was said before, and goes on.
	again := t.openConsole(spec.UUID)
	again.await("ECHO:hello")
	again.await("ECHO:" + long)
	again.say("echo again")
	again.await("ECHO:again")
}

func serialHasOneSession(t *suite) {
	spec, ctx := t.bootable(), t.Context()
	first := t.boot(spec)
	_, err := t.Driver.OpenSerial(ctx, spec.UUID, false)
	t.expectCode("second session", err, fault.FailedPrecondition)
	first.say("echo still here")
	first.await("ECHO:still here")

	conn, err := t.Driver.OpenSerial(ctx, spec.UUID, true)
	t.must(err)
	second := t.newConsole(conn)
	first.awaitEnd()
	if _, err := first.conn.Write([]byte("echo ghost\n")); err == nil {
		t.Error("the session that was taken over can still write")
	}
	t.must(first.conn.Close())
	second.await("ECHO:still here")
	second.say("echo taken over")
	second.await("ECHO:taken over")
	if strings.Contains(second.String(), "ghost") {
		t.Error("input of the session that was taken over reached the guest")
	}
}

func serialEndsWithTheMachine(t *suite) {
	spec := blank()
	t.start(spec)
	c := t.openConsole(spec.UUID)
	t.must(t.Driver.Kill(t.Context(), spec.UUID))
	c.awaitEnd()
	t.must(t.Driver.Start(t.Context(), spec.UUID))
	t.openConsole(spec.UUID) // the next run has a port of its own
}

func displaySpeaksRFB(t *suite) {
	spec := blank()
	spec.Console = hypervisor.ConsoleVNC
	t.start(spec)
	conn, err := t.Driver.OpenDisplay(t.Context(), spec.UUID)
	t.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	read := func(n int) []byte {
		t.Helper()
		b := make([]byte, n)
		_, err := io.ReadFull(conn, b)
		t.must(err)
		return b
	}
	write := func(b []byte) {
		t.Helper()
		_, err := conn.Write(b)
		t.must(err)
	}
	// RFC 6143, section 7.1: both sides say their version, the server its security types, the client chooses none.
	version := read(12)
	if string(version) != "RFB 003.008\n" {
		t.Fatalf("the server said %q", version)
	}
	write(version)
	if types := read(int(read(1)[0])); len(types) != 1 || types[0] != 1 {
		t.Fatalf("the security types are %v", types)
	}
	write([]byte{1})
	if result := read(4); string(result) != "\x00\x00\x00\x00" {
		t.Fatalf("the security result is %v", result)
	}
	write([]byte{1}) // a shared session
	head := read(24)
	if head[0] == 0 && head[1] == 0 {
		t.Errorf("the screen has no width: %v", head)
	}

	t.must(t.Driver.Kill(t.Context(), spec.UUID))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

func displayNeedsVNC(t *suite) {
	for _, kind := range []hypervisor.Console{hypervisor.ConsoleNone, hypervisor.ConsoleDummy} {
		spec := blank()
		spec.Console = kind
		t.start(spec)
		_, err := t.Driver.OpenDisplay(t.Context(), spec.UUID)
		t.expectCode(kind.String(), err, fault.FailedPrecondition)
	}
}
