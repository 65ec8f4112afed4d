package guestfs

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// openedDisk is the content of a disk as a file.
type openedDisk struct {
	*os.File
	size     int64
	readOnly bool
	end      func() error // ends the export; nil = there is none
}

func openDisk(ctx context.Context, d disk, readOnly bool) (*openedDisk, error) {
	if d.Format == hypervisor.DiskQCOW2 {
		return exportQCOW2(ctx, d.File, readOnly)
	}
	return openRaw(d.File, readOnly)
}

func openRaw(path string, readOnly bool) (*openedDisk, error) {
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.Wrap(err, "volume")
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fault.New(fault.FailedPrecondition, "volume %s: is no regular file", path)
	}
	if err != nil {
		return nil, join(err, f.Close())
	}
	return &openedDisk{File: f, size: st.Size(), readOnly: readOnly}, nil
}

func (d *openedDisk) close() error {
	var err error
	if !d.readOnly {
		err = fault.Wrap(d.Sync(), "volume")
	}
	err = join(err, d.Close())
	if d.end != nil {
		err = join(err, d.end())
	}
	return err
}

// exportPatience is how long the export of a disk may take to be there.
const exportPatience = 30 * time.Second

// exportQCOW2 has qemu-storage-daemon show the content of a qcow2 file as a file, in a folder that only this process and its children see.
func exportQCOW2(ctx context.Context, path string, readOnly bool) (*openedDisk, error) {
	shown, err := hiddenFile(path)
	if err != nil {
		return nil, err
	}
	options, err := exportOptions(path, shown, readOnly)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := procexec.Runner{}.Run(ctx, procexec.Command{Program: "qemu-storage-daemon", Args: options})
		ended <- err
	}()
	end := func() error {
		cancel()
		if err := <-ended; err != nil && !fault.Is(err, fault.Canceled) {
			return err
		}
		return nil
	}
	if err := awaitExport(ctx, shown, ended); err != nil {
		cancel()
		return nil, err
	}
	d, err := openRaw(shown, readOnly)
	if err != nil {
		return nil, join(err, end())
	}
	d.end = end
	return d, nil
}

func exportOptions(path, shown string, readOnly bool) ([]string, error) {
	type object map[string]any
	block, err := json.Marshal(object{
		"driver": "qcow2", "node-name": "disk", "read-only": readOnly, "discard": "unmap", "backing": nil,
		"file": object{"driver": "file", "filename": path, "read-only": readOnly, "discard": "unmap"},
	})
	if err != nil {
		return nil, err
	}
	export, err := json.Marshal(object{
		"type": "fuse", "id": "export", "node-name": "disk", "mountpoint": shown, "writable": !readOnly, "growable": false, "allow-other": "off",
	})
	return []string{"--blockdev", string(block), "--export", string(export)}, err
}

// hiddenFile makes an empty file on a file system in memory, mounted where only this mount namespace sees it and the volume does not lie.
func hiddenFile(volume string) (string, error) {
	for _, dir := range []string{"/mnt", "/media", "/srv", "/opt", "/tmp"} {
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() || strings.HasPrefix(volume, dir+"/") {
			continue
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k"); err != nil {
			return "", fault.As(fault.Internal, err, "mount tmpfs")
		}
		shown := filepath.Join(dir, "disk")
		return shown, fault.Wrap(os.WriteFile(shown, nil, 0o600), "qcow2 export")
	}
	return "", fault.New(fault.Internal, "there is no folder to show a qcow2 disk in")
}

// awaitExport waits until a file is the root of a FUSE file system.
func awaitExport(ctx context.Context, shown string, ended <-chan error) error {
	const fuseMagic = 0x65735546
	limit := time.NewTimer(exportPatience)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(shown, &st); err == nil && st.Type == fuseMagic {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-ended:
			if err == nil {
				err = fault.New(fault.Internal, "qemu-storage-daemon ended")
			}
			return fault.Wrap(err, "show the qcow2 disk")
		case <-limit.C:
			return fault.New(fault.Unavailable, "the qcow2 disk could not be shown within %s", exportPatience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
