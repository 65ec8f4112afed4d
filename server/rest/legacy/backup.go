package legacy

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// backupBody is HyperSDK's request; what stands below description is Hyperplane's.
type backupBody struct {
	VMName      string `json:"vm_name"`
	BackupName  string `json:"backup_name"`
	Compress    bool   `json:"compress"`
	Description string `json:"description"`

	Parent     string `json:"parent"`
	Checkpoint bool   `json:"checkpoint"`
}

type backupView struct {
	BackupName    string           `json:"backup_name"`
	VMName        string           `json:"vm_name"`
	VMUUID        string           `json:"vm_uuid"`
	BackupPath    string           `json:"backup_path"`
	Description   string           `json:"description"`
	CreatedAt     time.Time        `json:"created_at"`
	DisksBackedUp int              `json:"disks_backed_up"`
	TotalSize     uint64           `json:"total_size"`
	Compressed    bool             `json:"compressed"`
	Managed       bool             `json:"managed"`
	Parent        string           `json:"parent,omitempty"`
	Checkpoint    bool             `json:"checkpoint"`
	Disks         []backupDiskView `json:"disks"`
}

type backupDiskView struct {
	Target   string `json:"target"`
	Source   string `json:"source"`
	File     string `json:"file"`
	Size     uint64 `json:"size"`
	FileSize uint64 `json:"file_size"`
	SHA256   string `json:"sha256"`
}

func backupViewOf(b *hypervisorv1.Backup) backupView {
	v := backupView{
		BackupName: b.GetName(), VMName: b.GetDomain(), VMUUID: b.GetDomainUuid(), BackupPath: b.GetPath(), Description: b.GetDescription(),
		CreatedAt: b.GetCreatedOn().AsTime(), DisksBackedUp: len(b.GetDisks()), TotalSize: b.GetFileBytes(), Compressed: b.GetCompressed(), Managed: b.GetManaged(),
		Parent: b.GetParent(), Checkpoint: b.GetCheckpoint(), Disks: []backupDiskView{},
	}
	for _, d := range b.GetDisks() {
		v.Disks = append(v.Disks, backupDiskView{d.GetTarget(), d.GetSource(), d.GetFile(), d.GetSize(), d.GetFileBytes(), hex.EncodeToString(d.GetSha256())})
	}
	return v
}

func (a *appliances) createBackup(ctx context.Context, b backupBody) (any, error) {
	res, err := last(a.app.CreateBackup(ctx, &hypervisorv1.CreateBackupRequest{
		Domain: b.VMName, Name: b.BackupName, Description: b.Description, Compress: b.Compress, Parent: b.Parent, Checkpoint: b.Checkpoint,
	}))
	if err != nil {
		return nil, err
	}
	return struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		backupView
	}{"success", "Backup of " + b.VMName + " created", backupViewOf(res.GetBackup())}, nil
}

// listBackups takes vm_name, which may be left away.
func (a *appliances) listBackups(r *http.Request) (any, error) {
	for key := range r.URL.Query() {
		if key != "vm_name" {
			return nil, fault.New(fault.InvalidArgument, "query parameter %q: is unknown; there are: vm_name", key)
		}
	}
	res, err := a.app.ListBackups(r.Context(), &hypervisorv1.ListBackupsRequest{Domain: r.URL.Query().Get("vm_name")})
	if err != nil {
		return nil, err
	}
	return listed("backups", res.GetBackups(), backupViewOf), nil
}

func (a *appliances) restoreBackup(ctx context.Context, b struct {
	BackupName string `json:"backup_name"`
	NewVMName  string `json:"new_vm_name"`
	Start      bool   `json:"start"`
},
) (any, error) {
	res, err := last(a.app.RestoreBackup(ctx, &hypervisorv1.RestoreBackupRequest{Backup: b.BackupName, NewName: b.NewVMName, Start: b.Start}))
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"status": "success", "message": "Backup " + b.BackupName + " restored", "backup_name": b.BackupName, "vm_name": res.GetDomain().GetName(),
		"domain": madeViewOf(res.GetDomain()), "started": b.Start,
	}, nil
}

type backupName struct {
	BackupName string `json:"backup_name"`
}

func (a *appliances) verifyBackup(ctx context.Context, b backupName) (any, error) {
	res, err := a.app.VerifyBackup(ctx, &hypervisorv1.VerifyBackupRequest{Backup: b.BackupName})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"status": "success", "valid": true, "backup_name": b.BackupName, "backup": backupViewOf(res.GetBackup()), "chain": append([]string{}, res.GetChain()...),
	}, nil
}

func (a *appliances) deleteBackup(ctx context.Context, b struct {
	backupName
	Force bool `json:"force"`
},
) (any, error) {
	_, err := a.app.DeleteBackup(ctx, &hypervisorv1.DeleteBackupRequest{Backup: b.BackupName, Force: b.Force})
	return answered(err, "Backup %s deleted", b.BackupName)
}
