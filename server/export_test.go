package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters"
	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

const simPassword = "s3cret-of-the-vcenter"

// site is a server and the vCenter it exports from.
type site struct {
	*servertest.Server
	t    *testing.T
	sim  *vcentersim.Simulator
	out  string
	sums map[string]string // SHA-256 of each disk's content, by VM name and number
}

// content is a disk of some data, some zeros and some holes, the same for the same seed.
func content(size int64, seed uint64) []byte {
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, seed))
	for off := int64(0); off < size; off += 256 << 10 {
		if r.IntN(3) == 0 {
			continue
		}
		block := data[off:min(size, off+192<<10)]
		for i := range block {
			block[i] = byte(r.IntN(64))
		}
	}
	return data
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, out: t.TempDir(), sums: make(map[string]string)}
	disk := func(key string, size int64, seed uint64) vcentersim.Disk {
		data := content(size, seed)
		sum := sha256.Sum256(data)
		s.sums[key] = hex.EncodeToString(sum[:])
		return vcentersim.Disk{Content: raw.New(strings.NewReader(string(data)), size)}
	}
	sim, err := vcentersim.New(t.Context(), vcentersim.Config{
		Username: "export@vsphere.local", Password: simPassword,
		VMs: []vcentersim.VM{
			{Name: "off", CPUs: 2, MemoryMB: 256, Disks: []vcentersim.Disk{disk("off-disk1", 5<<20+512, 1), disk("off-disk2", 3<<20, 2)}, NICs: []vcentersim.NIC{{MAC: "00:50:56:01:02:03"}}},
			{Name: "on", CPUs: 1, MemoryMB: 128, Firmware: "efi", PoweredOn: true, Disks: []vcentersim.Disk{disk("on-disk1", 8<<20, 3), disk("on-disk2", 2<<20, 5)}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.sim = sim
	t.Cleanup(func() { _ = sim.Close(context.WithoutCancel(t.Context())) })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, sim.Certificate(), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Server = servertest.Start(t, func(c *config.Config) {
		c.VCenterURL, c.Username, c.Password, c.CAFile = sim.URL(), "export@vsphere.local", simPassword, ca
	})
	return s
}

func (s *site) jobs() exportv1.JobServiceClient { return exportv1.NewJobServiceClient(s.DialSocket()) }

// submit submits a job as a HyperSDK user does and returns its id.
func (s *site) submit(definition string) string {
	s.t.Helper()
	client, base := s.HTTP()
	code, body := do(s.t, client, http.MethodPost, base+"/jobs/submit", s.Token(), definition)
	var res struct {
		JobIDs []string `json:"job_ids"`
	}
	if err := json.Unmarshal([]byte(body), &res); code != http.StatusOK || err != nil || len(res.JobIDs) != 1 {
		s.t.Fatalf("submit: %d %s %v", code, body, err)
	}
	return res.JobIDs[0]
}

// wait watches a job until done says so, and returns it.
func (s *site) wait(id string, done func(*exportv1.Job) bool) *exportv1.Job {
	s.t.Helper()
	stream, err := s.jobs().WatchJob(s.t.Context(), &exportv1.WatchJobRequest{Id: id})
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		if j := m.GetJob(); done(j) {
			return j
		}
	}
}

func hasEnded(j *exportv1.Job) bool {
	return j.GetState() != exportv1.JobState_JOB_STATE_PENDING && j.GetState() != exportv1.JobState_JOB_STATE_RUNNING
}

func (s *site) run(definition string) *exportv1.Job {
	s.t.Helper()
	return s.wait(s.submit(definition), hasEnded)
}

// clean checks that nothing of a job is left: at the source no lease and no snapshot, here only the wanted folders.
func (s *site) clean(folders ...string) {
	s.t.Helper()
	rec := s.sim.Record()
	if len(rec.Snapshots) > 0 {
		s.t.Errorf("snapshots left: %+v", rec.Snapshots)
	}
	for _, l := range rec.Leases {
		if l.State == vcentersim.LeaseOpen {
			s.t.Errorf("lease left open: %+v", l)
		}
	}
	var left []string
	for _, dir := range []string{s.out, filepath.Join(s.Config.StateDir, "volumes", ".staging")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, e.Name())
		}
	}
	if strings.Join(left, " ") != strings.Join(folders, " ") {
		s.t.Errorf("files left: %v, want %v", left, folders)
	}
}

// digest reads an image through the converters and returns the SHA-256 of its first size bytes.
func (s *site) digest(path string) string {
	s.t.Helper()
	var r image.Reader
	r, err := convertersall.Formats().Open(s.t.Context(), path, converters.OpenOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	sum, err := converters.Digest(s.t.Context(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return hex.EncodeToString(sum[:])
}

func (s *site) completed(j *exportv1.Job) {
	s.t.Helper()
	if j.GetState() != exportv1.JobState_JOB_STATE_COMPLETED {
		logs, _ := s.jobs().ListJobLogs(s.t.Context(), &exportv1.ListJobLogsRequest{Id: j.GetId()})
		s.t.Fatalf("job: %v\n%v", j, logs)
	}
}

func TestExportToFiles(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"qcow2", "raw", "vmdk"} {
		for vm, disks := range map[string][]string{"off": {"off-disk1", "off-disk2"}, "on": {"on-disk1", "on-disk2"}} {
			t.Run(format+"/"+vm, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				j := s.run(`{"vm_path":"` + vm + `","format":"` + format + `","output_path":"` + s.out + `"}`)
				s.completed(j)
				for _, key := range disks {
					path := filepath.Join(s.out, vm, key+"."+format)
					if got := s.digest(path); got != s.sums[key] {
						t.Errorf("%s: content %s, want %s", path, got, s.sums[key])
					}
				}
				for _, f := range j.GetResult().GetFiles() {
					checkFile(t, f)
				}
				if len(j.GetResult().GetFiles()) != 4 || j.GetResult().GetOvfPath() != filepath.Join(s.out, vm, vm+".ovf") {
					t.Errorf("result: %v", j.GetResult())
				}
				s.clean(vm)
			})
		}
	}
}

// checkFile compares a file with what the result says of it.
func checkFile(t *testing.T, f *exportv1.OutputFile) {
	t.Helper()
	data, err := os.ReadFile(f.GetPath())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	if hex.EncodeToString(sum[:]) != f.GetSha256() || uint64(len(data)) != f.GetSize() {
		t.Errorf("%s: SHA-256 or size is not what the result says", f.GetPath())
	}
	if f.GetContentSha256() != "" && len(f.GetVerifiedDigests()) == 0 {
		t.Errorf("%s: was not compared with the source's digest", f.GetPath())
	}
}

func TestExportBecomesAVM(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	j := s.run(`{"vm_path":"off","format":"qcow2","libvirt":{"name":"moved","start":true,"tags":{"from":"vsphere"}}}`)
	s.completed(j)
	res, err := hypervisorv1.NewVmServiceClient(s.DialSocket()).GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: "moved"})
	if err != nil {
		t.Fatal(err)
	}
	vm := res.GetVmInfo()
	if vm.GetState() != hypervisorv1.State_STATE_RUNNING || vm.GetMemoryInMib() != 256 || vm.GetVirtualCpus() != 2 || len(vm.GetVolumes()) != 2 ||
		vm.GetAddress().GetMacAddress() != "00:50:56:01:02:03" || vm.GetTags()["from"] != "vsphere" || vm.GetUuid() != j.GetResult().GetVmUuid() {
		t.Errorf("vm: %v", vm)
	}
	for i, name := range []string{"root", "secondary-volume.0"} {
		key := []string{"off-disk1", "off-disk2"}[i]
		if got := s.digest(filepath.Join(s.Config.StateDir, "volumes", vm.GetUuid(), name)); got != s.sums[key] {
			t.Errorf("%s: content %s, want %s", name, got, s.sums[key])
		}
	}
	s.clean()
}

func TestExportFailsCleanly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		vm         string
		definition string // in place of the usual one
		fault      *vcentersim.Fault
		prepare    func(s *site)
		code, want string
		left       []string
	}{
		"wrong path":    {vm: "/DC0/vm/nothing", code: "NOT_FOUND", want: "nothing"},
		"cut always":    {vm: "off", fault: &vcentersim.Fault{Kind: vcentersim.FaultCut, VM: "off", AtPercent: 90, Reads: -1}, code: "UNAVAILABLE", want: "disk"},
		"ends early":    {vm: "on", fault: &vcentersim.Fault{Kind: vcentersim.FaultTruncate, VM: "on", AtPercent: 50, Reads: -1}, code: "DATA_LOSS", want: "early"},
		"wrong digest":  {vm: "on", fault: &vcentersim.Fault{Kind: vcentersim.FaultDigest, VM: "on", Reads: -1}, code: "DATA_LOSS", want: "sha"},
		"lease expires": {vm: "on", fault: &vcentersim.Fault{Kind: vcentersim.FaultExpire, VM: "on", AtPercent: 50, Reads: -1}, code: "ABORTED", want: "lease"},
		"exists": {vm: "off", prepare: func(s *site) {
			if err := os.Mkdir(filepath.Join(s.out, "off"), 0o700); err != nil {
				s.t.Fatal(err)
			}
		}, code: "ALREADY_EXISTS", want: "exists already", left: []string{"off"}},
		"wrong password": {
			definition: `{"vm_path":"off","output_path":"OUT","vcenter":{"server":"URL","username":"export@vsphere.local","password":"nope-` + simPassword + `","insecure":true}}`,
			code:       "UNAUTHENTICATED", want: "password",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if c.fault != nil {
				if err := s.sim.Inject(*c.fault); err != nil {
					t.Fatal(err)
				}
			}
			if c.prepare != nil {
				c.prepare(s)
			}
			definition := strings.NewReplacer("OUT", s.out, "URL", s.sim.URL()).Replace(c.definition)
			if definition == "" {
				definition = `{"vm_path":"` + c.vm + `","output_path":"` + s.out + `"}`
			}
			j := s.run(definition)
			if j.GetState() != exportv1.JobState_JOB_STATE_FAILED || j.GetError().GetCode() != c.code || !strings.Contains(j.GetError().GetMessage(), c.want) {
				t.Errorf("job ended %v with %v, want %s and %q", j.GetState(), j.GetError(), c.code, c.want)
			}
			s.noSecrets(j.GetId())
			s.clean(c.left...)
		})
	}
}

// noSecrets looks for passwords wherever a user or a thief of files may look.
func (s *site) noSecrets(id string) {
	s.t.Helper()
	client, base := s.HTTP()
	for _, path := range []string{"/jobs/" + id, "/jobs/logs/" + id, "/v1/jobs/" + id, "/jobs/query"} {
		if _, body := get(s.t, client, base+path, s.Token()); strings.Contains(body, simPassword) {
			s.t.Errorf("%s shows the password: %s", path, body)
		}
	}
	err := filepath.WalkDir(s.Config.StateDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), simPassword) {
			s.t.Errorf("%s holds the password", path)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestExportSurvivesOneCut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultCut, VM: "off", AtPercent: 90}); err != nil {
		t.Fatal(err)
	}
	s.completed(s.run(`{"vm_path":"off","output_path":"` + s.out + `"}`))
	s.clean("off")
}

func TestCancelStopsTheTransfer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultSlow, VM: "on", BytesPerSecond: 200 << 10, Reads: -1}); err != nil {
		t.Fatal(err)
	}
	id := s.submit(`{"vm_path":"on","output_path":"` + s.out + `"}`)
	s.wait(id, func(j *exportv1.Job) bool { return j.GetProgress().GetBytesDone() > 0 })
	client, base := s.HTTP()
	code, body := do(t, client, http.MethodPost, base+"/jobs/cancel", s.Token(), `{"job_ids":["`+id+`"]}`)
	if code != http.StatusOK || !strings.Contains(body, `"cancelled":["`+id+`"]`) {
		t.Fatalf("cancel: %d %s", code, body)
	}
	s.clean() // at once: the answer says that the work has stopped
	if j := s.wait(id, hasEnded); j.GetState() != exportv1.JobState_JOB_STATE_CANCELLED {
		t.Errorf("job: %v", j)
	}
}

func TestExportGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// The second disk is finished soon; the first one is slow in the first run only.
	if err := s.sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultSlow, VM: "on", Disk: 0, BytesPerSecond: 200 << 10}); err != nil {
		t.Fatal(err)
	}
	id := s.submit(`{"vm_path":"on","output_path":"` + s.out + `","options":{"parallel_downloads":2}}`)
	s.wait(id, func(j *exportv1.Job) bool {
		d := j.GetProgress().GetDisks()
		return len(d) == 2 && d[1].GetComplete() && d[0].GetBytesDone() > 0
	})
	s.Stop()
	before := len(s.sim.Record().Requests)
	s.Restart()
	if err := s.sim.WriteDisk("on", 0, []byte("written after the snapshot"), 0); err != nil {
		t.Fatal(err)
	}
	j := s.wait(id, hasEnded)
	s.completed(j)
	if j.GetResumes() != 1 {
		t.Errorf("resumes: %d, want 1", j.GetResumes())
	}
	for _, key := range []string{"on-disk1", "on-disk2"} {
		if got := s.digest(filepath.Join(s.out, "on", key+".qcow2")); got != s.sums[key] {
			t.Errorf("%s: content %s, want %s: that of the snapshot", key, got, s.sums[key])
		}
	}
	reads := 0
	for _, r := range s.sim.Record().Requests[before:] {
		if strings.HasPrefix(r.Path, "/nfc/") {
			reads++
		}
	}
	if reads != 1 {
		t.Errorf("after the restart %d disks were read, want the one that was not complete", reads)
	}
	s.clean("on")
}
