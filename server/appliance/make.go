package appliance

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// making is the making of a domain that is no VM.
type making struct {
	*Service
	definition []byte
	layout     hypervisor.Appliance
	// revision has at least the new UUID and name.
	revision hypervisor.Revision
	// files are where its disks shall lie, in the order of the definition.
	files []string
	// variables is the file whose content the firmware's variables get; empty = there are none. target is where they shall lie.
	variables, variablesTarget string
	// seed makes the file of a seed disk, which shall lie at seedTarget; nil = none.
	seed       func(ctx context.Context, path string) error
	seedTarget string
	// source is the machine that fill copies from, if it is alive.
	source string
	// fill makes the disks.
	fill             func(ctx context.Context, files []string) error
	autostart, start bool
	tell             *teller
}

// run makes the domain or leaves nothing.
func (m making) run(ctx context.Context) (*hypervisorv1.MadeDomain, error) {
	w := work{Source: m.source, Machine: m.revision.UUID}
	for _, file := range m.files {
		w.Files = append(w.Files, m.stage(file))
	}
	disks := len(w.Files)
	if m.variables != "" {
		m.revision.Variables = m.variablesTarget
		w.Files = append(w.Files, m.stage(m.variablesTarget))
	}
	if m.seed != nil {
		m.revision.Seed = m.seedTarget
		w.Files = append(w.Files, m.stage(m.seedTarget))
	}
	for _, f := range w.Files {
		if _, err := os.Lstat(f.Final); err == nil {
			return nil, fault.New(fault.AlreadyExists, "the file %s exists; choose another name, or remove it", f.Final)
		}
	}
	definition, err := m.Driver.ReviseDefinition(m.definition, m.revision)
	if err != nil {
		return nil, err
	}
	err = m.do(ctx, w, func(ctx context.Context) error {
		var to []string
		for _, f := range w.Files[:disks] {
			to = append(to, f.Staged)
		}
		if err := m.fill(ctx, to); err != nil {
			return err
		}
		if err := m.others(ctx, w.Files[disks:]); err != nil {
			return err
		}
		if err := w.publish(); err != nil {
			return err
		}
		return m.define(ctx, definition, w)
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.MadeDomain{Name: m.revision.Name, Uuid: m.revision.UUID, Files: m.files}, nil
}

// stage names a file's hidden beginning, in its own folder.
func (m making) stage(file string) staged {
	return staged{Staged: filepath.Join(filepath.Dir(file), ".hyperplane-"+m.revision.UUID[:8]+"-"+filepath.Base(file)), Final: file}
}

// others makes the files that are no disks, in their order.
func (m making) others(ctx context.Context, files []staged) error {
	if m.variables != "" {
		if err := copyBytes(m.variables, files[0].Staged); err != nil {
			return fault.Wrap(err, "the firmware's variables")
		}
		files = files[1:]
	}
	if m.seed != nil {
		return m.seed(ctx, files[0].Staged)
	}
	return nil
}

func (m making) define(ctx context.Context, definition []byte, w work) error {
	m.tell.tell("defining the domain", 0, 0)
	if err := m.Driver.Redefine(ctx, definition, m.files); err != nil {
		return err
	}
	if m.autostart {
		if err := m.Driver.SetAutostart(ctx, m.revision.UUID, true); err != nil {
			return err
		}
	}
	if m.start {
		m.tell.tell("starting the domain", 0, 0)
		if err := m.Driver.StartDomain(ctx, m.revision.UUID); err != nil {
			return err
		}
	}
	return w.settle()
}

// copyBytes copies a small file as it is.
func copyBytes(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// newMACs makes addresses for all network cards of a machine.
func (s *Service) newMACs(a hypervisor.Appliance) []string {
	macs := make([]string, len(a.MACs))
	for i := range macs {
		macs[i] = s.NewMAC()
	}
	return macs
}

// variablesFile is where the firmware's variables of a new machine lie: beside those of the old one.
func variablesFile(old, name, uuid string) string {
	return filepath.Join(filepath.Dir(old), name+"-"+uuid[:8]+"_VARS.fd")
}

// diskFile is where a new machine's disk lies in a folder.
func diskFile(dir, name string, d hypervisor.ApplianceDisk) string {
	extension := ".img"
	if d.Format == hypervisor.DiskQCOW2 {
		extension = ".qcow2"
	}
	return filepath.Join(dir, name+"-"+d.Target+extension)
}
