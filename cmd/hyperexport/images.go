package main

import (
	"context"
	"errors"

	"github.com/hyperplane-project/hyperplane/clients/cli/exporter"
	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Readable implements exporter.Engine.
func (e *engine) Readable() []string { return e.formats.Readable() }

// Writable implements exporter.Engine.
func (e *engine) Writable() []string { return e.formats.Writable() }

func openOptions(img exporter.Image) converters.OpenOptions {
	return converters.OpenOptions{
		Format: img.Format, SameFolder: img.SameFolder,
		OpenOptions: image.OpenOptions{
			Snapshot: img.Snapshot, Member: img.Member, SizeRule: image.SizeRule(img.SizeRule), Force: img.IgnoreChecksums,
		},
	}
}

func (e *engine) open(ctx context.Context, img exporter.Image) (image.Reader, error) {
	return e.formats.Open(ctx, img.Path, openOptions(img))
}

// Inspect implements exporter.Engine.
func (e *engine) Inspect(img exporter.Image) (image.Info, error) {
	return e.formats.Inspect(img.Path, openOptions(img))
}

// Check implements exporter.Engine.
func (e *engine) Check(ctx context.Context, img exporter.Image, report func(image.Finding)) error {
	return e.formats.Check(ctx, img.Path, openOptions(img), report)
}

// Compare implements exporter.Engine.
func (e *engine) Compare(ctx context.Context, a, b exporter.Image) (at int64, err error) {
	ra, err := e.open(ctx, a)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ra.Close()) }()
	rb, err := e.open(ctx, b)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rb.Close()) }()
	return converters.Compare(ctx, ra, rb)
}
