package server_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// TestSourceOfStockDestination: what a stock destination asks in a migration or a copy is done, up to what it asks although the VM has left.
func TestSourceOfStockDestination(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{
		"migrate-stopped-commit": false, "migrate-running-commit": true, "migrate-running-abandon": true, "copy-running": true, "copy-stopped": false,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newStockDestination(t, running)
			st, destroyed := hypervisorv1.State_STATE_STOPPED, false
			if running {
				st = hypervisorv1.State_STATE_RUNNING
			}
			for _, call := range destinationCalls(t, name) {
				text, err := d.call(call)
				if err != nil {
					t.Fatal(call.method, err)
				}
				// Of a VM that has left the stock source says that it was put back into service.
				left := destroyed && call.method == "Hypervisor.PrepareVmForMigration"
				if (text != "") != call.refused && !left {
					t.Errorf("%s: %q; refused by the stock source: %v", call.method, text, call.refused)
				}
				destroyed = destroyed || call.method == "Hypervisor.DestroyVm"
				st = d.after(call, destroyed, st)
				if call.method == "Hypervisor.StopVm" { // what a guest writes at its end
					d.write("written at the end")
				}
			}
			want := content(512<<10, 7)
			if running {
				copy(want[1000:], "written at the end")
			}
			if !bytes.Equal(d.have[0], want) || string(d.data) != strings.Repeat("u", 29) || (!running && len(d.have[1]) != 16<<20) {
				t.Errorf("what came is something else: %d, %d and %q", len(d.have[0]), len(d.have[1]), d.data)
			}
			if _, err := os.Stat(file(d.source, d.vm, "root")); destroyed != errors.Is(err, os.ErrNotExist) {
				t.Errorf("destroyed %v: %v", destroyed, err)
			}
			if err := d.c.Ping(); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func (d *stockDestination) write(text string) {
	d.t.Helper()
	f, err := os.OpenFile(file(d.source, d.vm, "root"), os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(text), 1000)
	if err := errors.Join(err, f.Close()); err != nil {
		d.t.Fatal(err)
	}
}

// TestSourceChecksTheToken: other than at the stock source, a certificate that lists everything does not stand for the token.
func TestSourceChecksTheToken(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"copy-bad-token", "copy-by-non-owner-wrong-token"} {
		d := newStockDestination(t, true)
		d.token = []byte("wrong")
		for _, call := range destinationCalls(t, name) {
			if call.method == "Hypervisor.GetVmInfo" {
				continue
			}
			if text, err := d.call(call); err != nil || text == "" {
				t.Errorf("%s: %s: %q, %v", name, call.method, text, err)
			}
		}
		if st, _, err := state(t.Context(), d.source, d.vm.GetUuid()); err != nil || st != hypervisorv1.State_STATE_RUNNING || d.have[0] != nil {
			t.Errorf("%s: %v %v, %d bytes came", name, st, err, len(d.have[0]))
		}
	}
}
