package dialogue

import (
	"io"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// silent is a client of MigrateVm that says what it wants and goes when it is asked whether the VM is to stay.
type silent struct {
	wire.Talk
	err error
}

func (s *silent) Read(message any, _ bool) error {
	if w, ok := message.(*MigrateVmRequest); ok {
		*w = MigrateVmRequest{IpAddress: []byte{10, 0, 0, 7}, SourceHypervisor: "hv1:6976"}
		return nil
	}
	return s.err
}

func (s *silent) Attend() {}

// TestUndecidedMove has a client go that was asked whether to commit, as a user does who interrupts it: nobody's failure.
func TestUndecidedMove(t *testing.T) {
	t.Parallel()
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF} {
		d := openMigrate(&silent{err: err})
		m := new(hypervisorv1.MigrateVmRequest)
		if err := d.Recv(m); err != nil {
			t.Fatal(err)
		}
		if err := d.Recv(m); !fault.Is(err, fault.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
	}
}
