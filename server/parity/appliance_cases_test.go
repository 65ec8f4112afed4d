package parity_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func (w *world) appliances() hypervisorv1.ApplianceServiceClient {
	return hypervisorv1.NewApplianceServiceClient(w.cc)
}

// ended is a message of a stream that says how far something is.
type ended interface {
	proto.Message
	GetFinal() bool
}

// must fails the test for an error of what a case needs.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// copyable makes a machine that is no VM, off or running, whose disk is a file, and returns its name.
func (w *world) copyable(ctx context.Context, running bool) string {
	w.t.Helper()
	file, name := filepath.Join(w.t.TempDir(), "disk.raw"), shortName()
	w.must(os.WriteFile(file, bytes.Repeat([]byte("parity. "), 1<<10), 0o600))
	spec := hypervisor.Spec{UUID: uuid.NewString(), Name: name, CPUs: 2, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: file}}}
	w.onHost(func(d hypervisor.Driver) error {
		if err := d.Define(ctx, spec); err != nil || !running {
			return err
		}
		return d.Start(ctx, spec.UUID)
	})
	return name
}

func shortName() string { return "n-" + uuid.NewString()[:13] }

// found returns the UUID of a domain that must be there.
func (w *world) found(ctx context.Context, name string) error {
	_, err := w.virt().GetDomain(ctx, &hypervisorv1.GetDomainRequest{Domain: name})
	return err
}

// lastOf calls a server stream over gRPC, or over REST if r is not nil, and reads its last message into last.
func (w *world) lastOf(ctx context.Context, r *restTransport, method, path string, req proto.Message, last ended) error {
	if r != nil {
		body, err := protojson.Marshal(req)
		if err != nil {
			return err
		}
		answer, err := r.do(ctx, http.MethodPost, r.base+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		lines := bytes.Split(bytes.TrimSpace(answer), []byte("\n"))
		var line struct {
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(lines[len(lines)-1], &line); err != nil || line.Error != nil {
			return fmt.Errorf("%s: %s (%w)", path, lines[len(lines)-1], err)
		}
		return protojson.Unmarshal(line.Result, last)
	}
	stream, err := w.cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/hyperplane.hypervisor.v1.ApplianceService/"+method)
	if err == nil {
		err = errors.Join(stream.SendMsg(req), stream.CloseSend())
	}
	for err == nil && !last.GetFinal() {
		proto.Reset(last)
		err = stream.RecvMsg(last)
	}
	return err
}

// backup backs up a new domain, and returns the backup's and the domain's name.
func (w *world) backup(ctx context.Context) (name, domain string) {
	w.t.Helper()
	name, domain = shortName(), w.copyable(ctx, false)
	w.must(w.lastOf(ctx, nil, "CreateBackup", "", &hypervisorv1.CreateBackupRequest{Domain: domain, Name: name}, new(hypervisorv1.CreateBackupResponse)))
	return name, domain
}

func (w *world) template(ctx context.Context) string {
	w.t.Helper()
	name := shortName()
	req := &hypervisorv1.CreateTemplateRequest{Domain: w.copyable(ctx, false), Name: name, Metadata: map[string]string{"a": "b"}}
	w.must(w.lastOf(ctx, nil, "CreateTemplate", "", req, new(hypervisorv1.CreateTemplateResponse)))
	return name
}

// isoContent is the least that is taken for an ISO 9660 file system.
func isoContent() []byte {
	raw := make([]byte, 17*2048)
	copy(raw[16*2048:], "\x01CD001\x01")
	return raw
}

func (w *world) isoImage(ctx context.Context) string {
	w.t.Helper()
	name := shortName() + ".iso"
	stream, err := w.appliances().UploadIsoImage(ctx)
	w.must(err)
	w.must(stream.Send(&hypervisorv1.UploadIsoImageRequest{Part: &hypervisorv1.UploadIsoImageRequest_Spec{Spec: &hypervisorv1.IsoImageSpec{Filename: name}}}))
	w.must(stream.Send(&hypervisorv1.UploadIsoImageRequest{Part: &hypervisorv1.UploadIsoImageRequest_Data{Data: isoContent()}}))
	_, err = stream.CloseAndRecv()
	w.must(err)
	return name
}

// inserted makes a domain with an image in a drive.
func (w *world) inserted(ctx context.Context) (domain, image string) {
	w.t.Helper()
	domain, image = w.copyable(ctx, false), w.isoImage(ctx)
	_, err := w.appliances().InsertIsoImage(ctx, &hypervisorv1.InsertIsoImageRequest{Domain: domain, Filename: image})
	w.must(err)
	return domain, image
}

// usersOf returns who has an image in a drive.
func (w *world) usersOf(ctx context.Context, image string) []string {
	w.t.Helper()
	res, err := w.appliances().ListIsoImages(ctx, &hypervisorv1.ListIsoImagesRequest{})
	w.must(err)
	for _, i := range res.GetImages() {
		if i.GetFilename() == image {
			return i.GetUsedBy()
		}
	}
	return nil
}

func applianceCases() map[string]unaryCase {
	return map[string]unaryCase{
		"DeleteDomain": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DeleteDomainRequest{Domain: w.copyable(ctx, true), RemoveStorage: true, Force: true}
			},
			func(ctx context.Context, t *testing.T, w *world, req, res proto.Message) {
				t.Helper()
				files := as(t, res, &hypervisorv1.DeleteDomainResponse{}).GetRemovedFiles()
				if err := w.found(ctx, req.(*hypervisorv1.DeleteDomainRequest).GetDomain()); err == nil || len(files) != 1 {
					t.Errorf("it is there, or files: %v", files)
				}
			},
		},
		"ListTemplates": {
			func(ctx context.Context, w *world) proto.Message {
				w.template(ctx)
				return &hypervisorv1.ListTemplatesRequest{PageSize: 1}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				all := as(t, res, &hypervisorv1.ListTemplatesResponse{}).GetTemplates()
				if len(all) != 1 || all[0].GetMetadata()["a"] != "b" || all[0].GetDisks() != 1 || all[0].GetCpus() != 2 {
					t.Errorf("templates: %v", all)
				}
			},
		},
		"DeleteTemplate": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DeleteTemplateRequest{Template: w.template(ctx)}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				if _, err := w.appliances().DeleteTemplate(ctx, req.(*hypervisorv1.DeleteTemplateRequest)); err == nil {
					t.Error("it is still there")
				}
			},
		},
		"ListIsoImages": {
			func(ctx context.Context, w *world) proto.Message {
				w.isoImage(ctx)
				return &hypervisorv1.ListIsoImagesRequest{PageSize: 1}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if all := as(t, res, &hypervisorv1.ListIsoImagesResponse{}).GetImages(); len(all) != 1 || all[0].GetSize() != 17*2048 {
					t.Errorf("images: %v", all)
				}
			},
		},
		"DeleteIsoImage": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DeleteIsoImageRequest{Filename: w.isoImage(ctx)}
			},
			func(_ context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				if _, err := os.Stat(filepath.Join(w.Config.ISODir, req.(*hypervisorv1.DeleteIsoImageRequest).GetFilename())); err == nil {
					t.Error("it is still there")
				}
			},
		},
		"InsertIsoImage": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.InsertIsoImageRequest{Domain: w.copyable(ctx, false), Filename: w.isoImage(ctx)}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				r := req.(*hypervisorv1.InsertIsoImageRequest)
				if users := w.usersOf(ctx, r.GetFilename()); len(users) != 1 || users[0] != r.GetDomain() {
					t.Errorf("users: %v", users)
				}
			},
		},
		"EjectIsoImage": {
			func(ctx context.Context, w *world) proto.Message {
				domain, _ := w.inserted(ctx)
				return &hypervisorv1.EjectIsoImageRequest{Domain: domain}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				if _, err := w.appliances().EjectIsoImage(ctx, req.(*hypervisorv1.EjectIsoImageRequest)); err == nil {
					t.Error("it can be taken out twice")
				}
			},
		},
		"ListBackups": {
			func(ctx context.Context, w *world) proto.Message {
				_, domain := w.backup(ctx)
				return &hypervisorv1.ListBackupsRequest{Domain: domain}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if all := as(t, res, &hypervisorv1.ListBackupsResponse{}).GetBackups(); len(all) != 1 || len(all[0].GetDisks()) != 1 {
					t.Errorf("backups: %v", all)
				}
			},
		},
		"VerifyBackup": {
			func(ctx context.Context, w *world) proto.Message {
				name, _ := w.backup(ctx)
				return &hypervisorv1.VerifyBackupRequest{Backup: name}
			},
			func(_ context.Context, t *testing.T, _ *world, req, res proto.Message) {
				t.Helper()
				if b := as(t, res, &hypervisorv1.VerifyBackupResponse{}).GetBackup(); b.GetName() != req.(*hypervisorv1.VerifyBackupRequest).GetBackup() {
					t.Errorf("backup: %v", b)
				}
			},
		},
		"DeleteBackup": {
			func(ctx context.Context, w *world) proto.Message {
				name, _ := w.backup(ctx)
				return &hypervisorv1.DeleteBackupRequest{Backup: name}
			},
			func(_ context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				if _, err := os.Stat(filepath.Join(w.Config.BackupDir, req.(*hypervisorv1.DeleteBackupRequest).GetBackup())); err == nil {
					t.Error("it is still there")
				}
			},
		},
	}
}

// both makes a case of something that is done in the same way over gRPC and, with r, over REST.
func both(do func(ctx context.Context, w *world, r *restTransport) error) streamCase {
	return streamCase{
		func(ctx context.Context, w *world) error { return do(ctx, w, nil) },
		func(ctx context.Context, w *world, r restTransport) error { return do(ctx, w, &r) },
	}
}

func applianceStreams() map[string]streamCase {
	const domains, templates, backups = "/v1/virtualisation/domains/", "/v1/virtualisation/templates", "/v1/virtualisation/backups"
	return map[string]streamCase{
		"CloneDomain": both(func(ctx context.Context, w *world, r *restTransport) error {
			id, name := w.copyable(ctx, true), shortName()
			err := w.lastOf(ctx, r, "CloneDomain", domains+id+":clone", &hypervisorv1.CloneDomainRequest{Domain: id, Name: name}, new(hypervisorv1.CloneDomainResponse))
			return errors.Join(err, w.found(ctx, name))
		}),
		"CreateTemplate": both(func(ctx context.Context, w *world, r *restTransport) error {
			name := shortName()
			req := &hypervisorv1.CreateTemplateRequest{Domain: w.copyable(ctx, true), Name: name}
			if err := w.lastOf(ctx, r, "CreateTemplate", templates, req, new(hypervisorv1.CreateTemplateResponse)); err != nil {
				return err
			}
			_, err := w.appliances().DeleteTemplate(ctx, &hypervisorv1.DeleteTemplateRequest{Template: name})
			return err
		}),
		"DeployTemplate": both(func(ctx context.Context, w *world, r *restTransport) error {
			template, name := w.template(ctx), shortName()
			req := &hypervisorv1.DeployTemplateRequest{Template: template, Name: name, Cpus: 1}
			err := w.lastOf(ctx, r, "DeployTemplate", templates+"/"+template+":deploy", req, new(hypervisorv1.DeployTemplateResponse))
			return errors.Join(err, w.found(ctx, name))
		}),
		"ExportTemplate": both(func(ctx context.Context, w *world, r *restTransport) error {
			template, path := w.template(ctx), filepath.Join(w.Config.ImageDir, shortName())
			last := new(hypervisorv1.ExportTemplateResponse)
			err := w.lastOf(ctx, r, "ExportTemplate", templates+"/"+template+":export", &hypervisorv1.ExportTemplateRequest{Template: template, Path: path}, last)
			if err == nil && len(last.GetFiles()) != 3 {
				err = fmt.Errorf("files: %v", last.GetFiles())
			}
			return err
		}),
		"CreateBackup": both(func(ctx context.Context, w *world, r *restTransport) error {
			name := shortName()
			req := &hypervisorv1.CreateBackupRequest{Domain: w.copyable(ctx, true), Name: name, Compress: true}
			if err := w.lastOf(ctx, r, "CreateBackup", backups, req, new(hypervisorv1.CreateBackupResponse)); err != nil {
				return err
			}
			_, err := w.appliances().VerifyBackup(ctx, &hypervisorv1.VerifyBackupRequest{Backup: name})
			return err
		}),
		"RestoreBackup": both(func(ctx context.Context, w *world, r *restTransport) error {
			backup, _ := w.backup(ctx)
			name := shortName()
			req := &hypervisorv1.RestoreBackupRequest{Backup: backup, NewName: name}
			err := w.lastOf(ctx, r, "RestoreBackup", backups+"/"+backup+":restore", req, new(hypervisorv1.RestoreBackupResponse))
			return errors.Join(err, w.found(ctx, name))
		}),
		"UploadIsoImage": {
			func(ctx context.Context, w *world) error {
				_, err := os.Stat(filepath.Join(w.Config.ISODir, w.isoImage(ctx)))
				return err
			},
			func(ctx context.Context, w *world, r restTransport) error {
				name := shortName() + ".iso"
				body := `{"spec":{"filename":"` + name + `"}}` + "\n" + `{"data":"` + base64.StdEncoding.EncodeToString(isoContent()) + `"}`
				if _, err := r.do(ctx, http.MethodPost, r.base+"/v1/virtualisation/isoImages:upload", io.Reader(strings.NewReader(body))); err != nil {
					return err
				}
				_, err := os.Stat(filepath.Join(w.Config.ISODir, name))
				return err
			},
		},
	}
}

func wrongsOfAppliances() map[string]wrong {
	const none = "no such domain"
	bad := func(req proto.Message, says string) wrong { return fixed(req, codes.InvalidArgument, says) }
	return map[string]wrong{
		"CloneDomain":    fixed(&hypervisorv1.CloneDomainRequest{Domain: none, Name: "x"}, codes.NotFound, none),
		"DeleteDomain":   fixed(&hypervisorv1.DeleteDomainRequest{Domain: none}, codes.NotFound, none),
		"CreateTemplate": bad(&hypervisorv1.CreateTemplateRequest{Domain: none, Name: "../x"}, "name"),
		"ListTemplates":  bad(&hypervisorv1.ListTemplatesRequest{PageToken: "?"}, "page_token"),
		"DeployTemplate": fixed(&hypervisorv1.DeployTemplateRequest{Template: "none", Name: "x"}, codes.NotFound, "none"),
		"ExportTemplate": bad(&hypervisorv1.ExportTemplateRequest{Template: "..", Path: "/x"}, "template"),
		"DeleteTemplate": bad(&hypervisorv1.DeleteTemplateRequest{}, "template"),
		"ListIsoImages":  bad(&hypervisorv1.ListIsoImagesRequest{PageToken: "?"}, "page_token"),
		"UploadIsoImage": bad(&hypervisorv1.UploadIsoImageRequest{Part: &hypervisorv1.UploadIsoImageRequest_Data{Data: []byte("x")}}, "spec"),
		"DeleteIsoImage": bad(&hypervisorv1.DeleteIsoImageRequest{Filename: "../x.iso"}, "filename"),
		"InsertIsoImage": {func(ctx context.Context, w *world) proto.Message {
			return &hypervisorv1.InsertIsoImageRequest{Domain: w.vm(ctx, false), Filename: w.isoImage(ctx)}
		}, codes.FailedPrecondition, "VM of this hypervisor"},
		"EjectIsoImage": {func(ctx context.Context, w *world) proto.Message {
			return &hypervisorv1.EjectIsoImageRequest{Domain: w.copyable(ctx, false)}
		}, codes.FailedPrecondition, "0 CD drives"},
		"CreateBackup":  fixed(&hypervisorv1.CreateBackupRequest{Domain: none}, codes.NotFound, none),
		"ListBackups":   bad(&hypervisorv1.ListBackupsRequest{PageToken: "?"}, "page_token"),
		"VerifyBackup":  bad(&hypervisorv1.VerifyBackupRequest{}, "backup"),
		"RestoreBackup": fixed(&hypervisorv1.RestoreBackupRequest{Backup: "none"}, codes.NotFound, "none"),
		"DeleteBackup":  bad(&hypervisorv1.DeleteBackupRequest{Backup: "."}, "backup"),
	}
}
