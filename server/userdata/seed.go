package userdata

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"go.yaml.in/yaml/v3"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// SeedFile is the disk in a VM's folder that brings the user data to cloud-init's NoCloud data source: an ISO 9660 file system with the label cidata
// (cloud-init's documentation, "NoCloud", "Source 2: Drive with labeled filesystem").
const SeedFile = "seed.iso"

// seedLabel is padded with spaces, as ECMA-119 section 8.4.7 wants it; the library would pad with NUL.
const seedLabel = "cidata                          "

// isoBlock is the logical block size of the file system.
const isoBlock = 2048

// Put makes content the user data of a VM that has none yet.
func (s *Service) Put(uuid string, content []byte) error {
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, File), content)
}

// Seed makes the seed disk of a VM anew, with its present host name, and returns its file; empty if the VM has no user data, and then there is no file.
func (s *Service) Seed(ctx context.Context, info *hypervisorv1.VmInfo) (string, error) {
	dir, err := s.Operations.Directory(info.GetUuid())
	if err != nil {
		return "", err
	}
	seed := filepath.Join(dir, SeedFile)
	content, err := os.ReadFile(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return "", discard(seed)
	}
	if err != nil {
		return "", err
	}
	defer clear(content)
	meta, err := yaml.Marshal(metaData{InstanceID: info.GetUuid(), LocalHostname: info.GetHostname()})
	if err != nil {
		return "", fault.As(fault.Internal, err, "meta-data")
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	staged := seed + ".new"
	if err := discard(staged); err != nil {
		return "", err
	}
	if err := writeISO(staged, map[string][]byte{"user-data": content, "meta-data": meta}); err != nil {
		return "", errors.Join(fault.Wrap(err, "seed disk"), discard(staged))
	}
	if err := os.Rename(staged, seed); err != nil {
		return "", errors.Join(err, discard(staged))
	}
	return seed, atomicfile.SyncDir(dir)
}

// metaData is what cloud-init's meta-data file must hold.
type metaData struct {
	InstanceID    string `yaml:"instance-id"`
	LocalHostname string `yaml:"local-hostname,omitempty"`
}

// writeISO makes a file system with files in its root. Rock Ridge keeps their names in small letters.
func writeISO(path string, files map[string][]byte) (err error) {
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	work, err := os.MkdirTemp(filepath.Dir(path), ".seed-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	iso, err := iso9660.Create(file.New(out, false), 0, 0, isoBlock, work)
	if err != nil {
		return fmt.Errorf("make: %w", err)
	}
	for name, content := range files {
		if err := put(iso, name, content); err != nil {
			return err
		}
	}
	if err := iso.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: seedLabel}); err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	return out.Sync()
}

func put(iso *iso9660.FileSystem, name string, content []byte) (err error) {
	f, err := iso.OpenFile("/"+name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(content)
	return err
}
