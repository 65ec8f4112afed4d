package main

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"github.com/hyperplane-project/hyperplane/clients/cli/exporter"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// standard is the name that stands for standard input or output.
const standard = "-"

// conversion is one run of the convert command.
type conversion struct {
	*engine
	request exporter.Convert
	source  converters.Source
	target  converters.Target
	options converters.Options
	result  converters.Result
}

// Convert implements exporter.Engine.
func (e *engine) Convert(ctx context.Context, c exporter.Convert) (res exporter.Converted, err error) {
	x := &conversion{engine: e, request: c}
	warnings, closeSource, err := x.openSource(ctx)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	closeBacking, err := x.prepare(ctx)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, closeBacking()) }()
	if c.Target == standard {
		err = x.toStandardOutput(ctx)
	} else {
		err = x.toFile(ctx)
	}
	if err != nil {
		return res, err
	}
	res = exporter.Converted{
		Path: c.Target, Format: c.To, Size: x.result.FileSize, VirtualSize: x.result.VirtualSize, DataBytes: x.result.Data, ResumedAt: x.result.Resumed,
		Warnings: warnings,
	}
	if c.SHA256 {
		res.SHA256, res.ContentSHA256 = hex.EncodeToString(x.result.FileSHA256[:]), hex.EncodeToString(x.result.SHA256[:])
	}
	return res, nil
}

// openSource opens the file or standard input.
func (x *conversion) openSource(ctx context.Context) (warnings []string, closeSource func() error, err error) {
	img := x.request.Source
	if img.Path != standard {
		r, err := x.open(ctx, img)
		if err != nil {
			return nil, nil, err
		}
		x.source.Reader = r
		return r.Info().Warnings, r.Close, nil
	}
	if img.Format == "" {
		return nil, nil, fault.New(fault.InvalidArgument, "--from: is needed to read standard input")
	}
	s, err := x.formats.OpenStream(img.Format, os.Stdin, -1)
	if err != nil {
		return nil, nil, err
	}
	x.source.Stream = s
	return s.Info().Warnings, s.Close, nil
}

// prepare makes target and options of the request.
func (x *conversion) prepare(ctx context.Context) (closeBacking func() error, err error) {
	c := x.request
	x.target = converters.Target{
		Format: c.To, Variant: c.Variant, ClusterSize: c.ClusterSize, Level: c.Level, Window: c.Window,
	}
	if c.Compress != "none" {
		x.target.Compression = c.Compress
	}
	x.options = converters.Options{
		Workers: c.Workers, Trust: c.Trust, SHA256: c.SHA256, FileSHA256: c.SHA256, MaxOutput: c.MaxOutput, MaxRatio: c.MaxRatio,
		Progress: func(p converters.Progress) {
			c.Progress(progress.State{Phase: "converting", Done: uint64(p.Virtual), Total: uint64(p.VirtualSize)})
		},
	}
	if c.Backing == "" {
		return func() error { return nil }, nil
	}
	return x.openBacking(ctx)
}

// openBacking opens the file of which the target is to hold the differences.
func (x *conversion) openBacking(ctx context.Context) (func() error, error) {
	c := x.request
	if c.Target == standard {
		return nil, fault.New(fault.InvalidArgument, "--backing: needs a file as target")
	}
	if same, err := sameFolder(c.Backing, c.Target); err != nil || !same {
		return nil, errors.Join(err, fault.New(fault.InvalidArgument, "--backing: %s is not in the folder of %s, where it is looked for later", c.Backing, c.Target))
	}
	o := converters.OpenOptions{Format: c.BackingFormat, SameFolder: c.Source.SameFolder}
	id, err := converters.FileIdentity(c.Backing, o)
	if err != nil {
		return nil, fault.Wrap(err, "--backing")
	}
	r, err := x.formats.Open(ctx, c.Backing, o)
	if err != nil {
		return nil, fault.Wrap(err, "--backing")
	}
	x.target.Backing = &converters.Backing{Name: filepath.Base(c.Backing), Format: r.Info().Format, Reader: r, Identity: id}
	return r.Close, nil
}

func sameFolder(a, b string) (bool, error) {
	sa, err := os.Stat(filepath.Dir(a))
	if err != nil {
		return false, fault.Wrap(err, "folder")
	}
	sb, err := os.Stat(filepath.Dir(b))
	return err == nil && os.SameFile(sa, sb), fault.Wrap(err, "folder")
}

func (x *conversion) toStandardOutput(ctx context.Context) (err error) {
	if x.request.Resume {
		return fault.New(fault.InvalidArgument, "--resume: standard output cannot be taken up")
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return fault.New(fault.InvalidArgument, "standard output is a terminal; an image would spoil it")
	}
	x.target.Stream = os.Stdout
	x.result, err = x.formats.Convert(ctx, x.source, x.target, x.options)
	return err
}

func (x *conversion) toFile(ctx context.Context) (err error) {
	id := ""
	if x.request.Resume {
		if x.source.Reader == nil {
			return fault.New(fault.InvalidArgument, "--resume: standard input cannot be taken up")
		}
		if id, err = converters.FileIdentity(x.request.Source.Path, openOptions(x.request.Source)); err != nil {
			return err
		}
	}
	x.result, err = x.formats.ConvertFile(ctx, x.source, x.request.Target, id, x.target, x.options,
		converters.WriteOptions{Force: x.request.Force, Resume: x.request.Resume})
	return err
}
