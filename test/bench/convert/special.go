package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/test/bench/gauge"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// reflink measures conversions on a file system that shares blocks: an XFS in a file, mounted for the time being.
func (b *bench) reflink(ctx context.Context) (missed int, err error) {
	fsFile, mount := filepath.Join(b.dir, "xfs.img"), filepath.Join(b.dir, "xfs")
	if err := errors.Join(os.Mkdir(mount, 0o700), os.WriteFile(fsFile, nil, 0o600), os.Truncate(fsFile, 3*b.size+1<<30)); err != nil {
		return 0, err
	}
	if _, err := proc.Run(ctx, nil, "mkfs.xfs", "-q", "-m", "reflink=1", fsFile); err != nil {
		return 0, err
	}
	if _, err := proc.Run(ctx, nil, "mount", "-o", "loop", fsFile, mount); err != nil {
		return 0, err
	}
	defer func() {
		_, unmounted := proc.Run(context.WithoutCancel(ctx), nil, "umount", mount)
		err = errors.Join(err, unmounted, os.Remove(fsFile))
	}()
	if _, err := proc.Run(ctx, nil, "cp", "--sparse=always", b.disk, filepath.Join(mount, "disk.raw")); err != nil {
		return 0, err
	}
	on := &bench{settings: b.settings, dir: mount, disk: filepath.Join(mount, "disk.raw")}
	for _, p := range []pair{
		{name: "reflink: raw to raw", format: "raw", ours: to("raw"), required: 20},
		{name: "reflink: raw to qcow2", format: "qcow2", ours: to("qcow2"), required: 20},
		{name: "reflink: qcow2 to raw", source: qcow2(), format: "raw", ours: to("raw"), required: 20},
		{name: "reflink: raw to vhdx", format: "vhdx", ours: to("vhdx"), required: 20},
		{name: "reflink: raw to vdi", format: "vdi", ours: to("vdi"), required: 20},
	} {
		if !b.only.MatchString(p.name) {
			continue
		}
		ok, err := on.measure(ctx, p)
		if err != nil {
			return missed, err
		}
		if !ok {
			missed++
		}
	}
	return missed, nil
}

// start measures how long a conversion of next to nothing takes.
func (b *bench) start(ctx context.Context) error {
	src, out := filepath.Join(b.dir, "tiny.raw"), filepath.Join(b.dir, "tiny.qcow2")
	if err := os.WriteFile(src, make([]byte, 4096), 0o600); err != nil {
		return err
	}
	var ours, theirs []gauge.Cost
	for range 20 {
		c, err := gauge.Run(ctx, nil, "bin/hyperexport", "convert", src, out, "--to", "qcow2", "--force", "--progress", "none")
		if err != nil {
			return err
		}
		q, err := gauge.Run(ctx, nil, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", src, out)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, c), append(theirs, q)
	}
	fmt.Printf("start-up on a tiny image: %.1f ms, qemu-img %.1f ms (wanted: below 20 ms)\n", gauge.Median(ours).Wall.Seconds()*1e3, gauge.Median(theirs).Wall.Seconds()*1e3)
	return nil
}
