package appliance

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ExportTemplate implements ApplianceService.
func (s *Service) ExportTemplate(req *hypervisorv1.ExportTemplateRequest, stream grpc.ServerStreamingServer[hypervisorv1.ExportTemplateResponse]) error {
	ctx := stream.Context()
	unlock, err := s.templates.Lock(ctx, req.GetTemplate())
	if err != nil {
		return fault.Wrap(err, "template %q: something else is done with it", req.GetTemplate())
	}
	defer unlock()
	t, m, err := s.template(ctx, req.GetTemplate())
	if err != nil {
		return err
	}
	if err := s.checkExport(req.GetPath()); err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(req.GetPath()), makingPrefix+s.NewUUID())
	e := exporting{Service: s, t: t, m: m, dir: dir, compress: req.GetCompress(), tell: &teller{now: s.Now, send: func(p *hypervisorv1.ApplianceProgress) error {
		return stream.Send(&hypervisorv1.ExportTemplateResponse{Progress: p})
	}}}
	err = s.do(ctx, work{Folders: []string{dir}}, func(ctx context.Context) error {
		if err := e.run(ctx); err != nil {
			return err
		}
		return publishFolder(dir, req.GetPath())
	})
	if err != nil {
		return fault.Wrap(err, "template %q: export", req.GetTemplate())
	}
	res := &hypervisorv1.ExportTemplateResponse{Final: true}
	entries, err := os.ReadDir(req.GetPath())
	if err != nil {
		return fault.Wrap(err, "export")
	}
	for _, entry := range entries {
		if st, err := entry.Info(); err == nil {
			res.Files = append(res.Files, filepath.Join(req.GetPath(), entry.Name()))
			res.FileBytes += uint64(st.Size())
		}
	}
	return stream.Send(res)
}

// checkExport accepts a new directory in one of the directories that are for such, or below the image directory.
func (s *Service) checkExport(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fault.New(fault.InvalidArgument, "path: %q is not an absolute path without dots", path)
	}
	if err := checkName("path", filepath.Base(path)); err != nil {
		return err
	}
	parent := filepath.Dir(path)
	in := slices.Contains([]string{filepath.Clean(s.TemplateDir), filepath.Clean(s.BackupDir)}, parent)
	if s.ImageDir != "" && !in {
		place, err := filepath.EvalSymlinks(parent)
		root, rootErr := filepath.EvalSymlinks(s.ImageDir)
		in = err == nil && rootErr == nil && (place == root || strings.HasPrefix(place, root+"/")) && strings.HasPrefix(parent+"/", filepath.Clean(s.ImageDir)+"/")
	}
	if !in {
		return fault.New(fault.PermissionDenied, "path: %q lies neither in the template directory %s, nor in the backup directory %s, nor in a directory of the image directory %s",
			path, s.TemplateDir, s.BackupDir, s.ImageDir)
	}
	if _, err := os.Lstat(path); err == nil {
		return fault.New(fault.AlreadyExists, "path: %q exists", path)
	}
	return nil
}

// exporting is the writing of a template's files.
type exporting struct {
	*Service
	t        *hypervisorv1.Template
	m        *manifest
	dir      string
	compress bool
	tell     *teller
}

func (e exporting) run(ctx context.Context) error {
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return fault.Wrap(err, "folder")
	}
	from := e.templatePath(e.m.Name)
	for _, d := range e.m.Disks {
		src := sourceFile{path: filepath.Join(from, d.File), format: hypervisor.DiskQCOW2}
		err := e.copyFile(ctx, src, filepath.Join(e.dir, d.File), hypervisor.DiskQCOW2, e.compress, e.tell.about("exporting disk "+d.Target))
		if err != nil {
			return fault.Wrap(err, "disk %s", d.Target)
		}
	}
	if v := e.m.Variables; v != nil {
		if err := copyBytes(filepath.Join(from, v.File), filepath.Join(e.dir, v.File)); err != nil {
			return err
		}
	}
	record, err := protojson.MarshalOptions{UseProtoNames: true, Multiline: true}.Marshal(e.t)
	if err != nil {
		return fault.As(fault.Internal, err, "record")
	}
	texts := map[string][]byte{"template.json": record}
	if e.m.Definition != "" {
		texts["definition.xml"] = []byte(e.m.Definition)
	}
	if e.m.VM != nil {
		texts["vm.json"] = e.m.VM
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(e.dir, name), append(text, '\n'), 0o600); err != nil {
			return fault.Wrap(err, "%s", name)
		}
	}
	return nil
}
