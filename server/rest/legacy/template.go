package legacy

import (
	"context"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

type templateBody struct {
	Domain      string            `json:"domain"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Metadata    map[string]string `json:"metadata"`
	Seal        bool              `json:"seal"`
}

type templateView struct {
	Name         string            `json:"name"`
	Description  string            `json:"description"`
	Metadata     map[string]string `json:"metadata"`
	CreatedAt    time.Time         `json:"created_at"`
	SourceDomain string            `json:"source_domain"`
	Managed      bool              `json:"managed"`
	Sealed       bool              `json:"sealed"`
	VCPUs        uint32            `json:"vcpus"`
	MemoryMB     uint64            `json:"memory_mb"`
	Disks        uint32            `json:"disks"`
	Size         uint64            `json:"size"`
	FileSize     uint64            `json:"file_size"`
}

func templateViewOf(t *hypervisorv1.Template) templateView {
	v := templateView{
		Name: t.GetName(), Description: t.GetDescription(), Metadata: t.GetMetadata(), CreatedAt: t.GetCreatedOn().AsTime(), SourceDomain: t.GetSourceDomain(),
		Managed: t.GetManaged(), Sealed: t.GetSealed(), VCPUs: t.GetCpus(), MemoryMB: t.GetMemoryBytes() >> 20, Disks: t.GetDisks(), Size: t.GetSize(),
		FileSize: t.GetFileBytes(),
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	return v
}

func (a *appliances) createTemplate(ctx context.Context, b templateBody) (any, error) {
	res, err := last(a.app.CreateTemplate(ctx, &hypervisorv1.CreateTemplateRequest{
		Domain: b.Domain, Name: b.Name, Description: b.Description, Metadata: b.Metadata, Seal: b.Seal,
	}))
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": "success", "message": "Template " + b.Name + " created", "template": templateViewOf(res.GetTemplate())}, nil
}

// deployBody is HyperSDK's request; memory is in MiB.
type deployBody struct {
	Template  string         `json:"template"`
	Name      string         `json:"name"`
	Memory    uint64         `json:"memory"`
	VCPUs     uint32         `json:"vcpus"`
	Network   string         `json:"network"`
	Autostart bool           `json:"autostart"`
	Customize *customization `json:"customize"`
	Start     bool           `json:"start"`
}

// customization is what HyperSDK took and ignored.
type customization struct {
	Hostname string `json:"hostname"`
	UserData string `json:"user_data"`
}

func (a *appliances) deployTemplate(ctx context.Context, b deployBody) (any, error) {
	if b.Memory > 1<<40 {
		return nil, fault.New(fault.InvalidArgument, "memory: %d MiB are too many", b.Memory)
	}
	req := &hypervisorv1.DeployTemplateRequest{
		Template: b.Template, Name: b.Name, MemoryBytes: b.Memory << 20, Cpus: b.VCPUs, Network: b.Network, Autostart: b.Autostart, Start: b.Start,
	}
	if b.Customize != nil {
		req.Customize = &hypervisorv1.Customization{Hostname: b.Customize.Hostname, UserData: []byte(b.Customize.UserData)}
	}
	res, err := last(a.app.DeployTemplate(ctx, req))
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"status": "success", "message": "VM " + b.Name + " deployed from template " + b.Template, "template": b.Template, "name": b.Name,
		"domain": madeViewOf(res.GetDomain()),
	}, nil
}

func (a *appliances) listTemplates(ctx context.Context, _ query) (any, error) {
	res, err := a.app.ListTemplates(ctx, &hypervisorv1.ListTemplatesRequest{})
	if err != nil {
		return nil, err
	}
	return listed("templates", res.GetTemplates(), templateViewOf), nil
}

func (a *appliances) exportTemplate(ctx context.Context, b struct {
	Template   string `json:"template"`
	ExportPath string `json:"export_path"`
	Compress   bool   `json:"compress"`
},
) (any, error) {
	res, err := last(a.app.ExportTemplate(ctx, &hypervisorv1.ExportTemplateRequest{Template: b.Template, Path: b.ExportPath, Compress: b.Compress}))
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"status": "success", "message": "Template " + b.Template + " exported", "template": b.Template, "export_path": b.ExportPath, "files": res.GetFiles(),
		"total_size": res.GetFileBytes(),
	}, nil
}

func (a *appliances) deleteTemplate(ctx context.Context, b struct {
	Template string `json:"template"`
},
) (any, error) {
	_, err := a.app.DeleteTemplate(ctx, &hypervisorv1.DeleteTemplateRequest{Template: b.Template})
	return answered(err, "Template %s deleted", b.Template)
}
