package vmvolume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Recover ends the moves of volumes that a killed daemon has left: one whose new file the machine uses is finished, others are taken back. It is called once,
// when the virtualiser can be reached and before methods are served. A VM that cannot be recovered keeps no other from it.
func (s *Service) Recover(ctx context.Context) error {
	var errs []error
	for _, info := range s.VMs.List() {
		for _, dir := range s.Directories {
			markers, err := filepath.Glob(filepath.Join(escape(filepath.Join(dir, info.GetUuid())), "*"+movingSuffix))
			errs = append(errs, err)
			for _, marker := range markers {
				errs = append(errs, fault.Wrap(s.recoverMove(ctx, info.GetUuid(), marker), "vm %s: unfinished move of a volume", info.GetUuid()))
			}
		}
	}
	return errors.Join(errs...)
}

// escape makes a pattern that matches only the path.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (s *Service) recoverMove(ctx context.Context, uuid, marker string) error {
	from, err := os.ReadFile(marker)
	if err != nil {
		return fault.Wrap(err, "marker")
	}
	record, release, err := s.Operations.Acquire(ctx, uuid)
	if err != nil {
		return err
	}
	defer release()
	m := moving{s: s, uuid: uuid, from: string(from), to: strings.TrimSuffix(marker, movingSuffix)}
	if slices.ContainsFunc(record.GetVolumeLocations(), func(p *hypervisorv1.LocalVolume) bool { return p.GetFilename() == m.to }) {
		return m.tidy()
	}
	machine, err := s.Driver.Get(ctx, uuid)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if slices.ContainsFunc(machine.Spec.Disks, func(d hypervisor.Disk) bool { return d.File == m.to }) {
		if err := m.note(ctx); err != nil {
			return err
		}
		return m.tidy()
	}
	if machine.State.Alive() {
		if err := s.Driver.AbandonMove(ctx, uuid, m.from); err != nil {
			return err
		}
	}
	return m.abandon()
}
