package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// pipesSession has VMs that people are connected to.
func pipesSession() session {
	return session{steps: []step{
		do(surroundings),
		changed("vm-create-started", asItIs),
		do(func(ctx context.Context, w *world) {
			w.create(ctx, "10.99.1.3", "mini", nil)
			w.create(ctx, "10.99.1.4", "data1", func(s *hypervisorv1.CreateVmSpec) { s.DoNotStart = false })
			w.create(ctx, "10.99.1.21", "gone1", func(s *hypervisorv1.CreateVmSpec) { s.DoNotStart = false })
		}),
		play("console-errors", "serial-errors", "serial-busy", "serial", "serial-vm-stops", "console", "manager", "trace-metadata-errors", "trace-metadata-vm-destroyed"),
	}}
}

func pipesExtras() map[string]extras {
	return map[string]extras{
		"serial":  {pipe: (&typist{}).hear},
		"console": {pipe: hearDisplay},
		"manager": {pipe: hearMonitor},
		"serial-vm-stops": {during: map[string]func(context.Context, *player){"pipe#1": func(ctx context.Context, p *player) {
			if _, err := p.vms().StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: "10.99.1.21"}); err != nil {
				p.t.Fatal(err)
			}
		}}, pipe: func(c *conn, s srpctest.Step) error { return c.until(s.Text) }},
		"trace-metadata-vm-destroyed": {
			skip: func(s srpctest.Step) bool { return s.Kind == "text" && strings.HasPrefix(s.Text, "/datasource") },
			during: map[string]func(context.Context, *player){"text#1": func(ctx context.Context, p *player) {
				if _, err := p.vms().DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: "10.99.1.21"}); err != nil {
					p.t.Fatal(err)
				}
			}},
		},
	}
}

// until reads until a text has come.
func (c *conn) until(text string) error {
	var got []byte
	for !strings.Contains(string(got), text) {
		b, err := c.in.ReadByte()
		if err != nil {
			return fmt.Errorf("after %q: %w", got, err)
		}
		got = append(got, b)
	}
	return nil
}

// typist ends the line that was typed: the simulated guest answers lines, where that of the recordings echoed each byte.
type typist struct{ done bool }

func (t *typist) hear(c *conn, _ srpctest.Step) error {
	if t.done {
		return nil
	}
	t.done = true
	if _, err := c.Write([]byte("\r")); err != nil {
		return err
	}
	return c.until("ECHO:hello")
}

// hearMonitor hears the echo of a command as it was recorded, and an answer of any content.
func hearMonitor(c *conn, s srpctest.Step) error {
	line, err := c.in.ReadString('\n')
	if strings.HasPrefix(line, `{"QMP"`) { // the stock server has read the greeting itself
		line, err = c.in.ReadString('\n')
	}
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(s.Text, `{"execute"`) && strings.TrimSpace(line) != strings.TrimSpace(s.Text):
		return fmt.Errorf("echo %q of %q", line, s.Text)
	case strings.HasPrefix(s.Text, `{"return"`) && !strings.Contains(line, "return"):
		return fmt.Errorf("answer %q", line)
	}
	return nil
}

// hearDisplay hears the hand-shake as it was recorded, up to the size of the screen and its name.
func hearDisplay(c *conn, s srpctest.Step) error {
	got := make([]byte, min(len(s.Data), 24))
	if _, err := io.ReadFull(c.in, got); err != nil {
		return err
	}
	if len(s.Data) < 24 && !bytes.Equal(got, s.Data) {
		return fmt.Errorf("%q instead of %q", got, s.Data)
	}
	return nil
}
