package legacy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

// submitted is the answer to /jobs/submit.
type submitted struct {
	JobIDs    []string  `json:"job_ids"`
	Accepted  int       `json:"accepted"`
	Rejected  int       `json:"rejected"`
	Errors    []string  `json:"errors,omitempty"`
	Timestamp time.Time `json:"timestamp"`
}

// submit takes one definition, a list, or {"jobs": list}. With one definition an error is the request's error.
func (a *api) submit(r *http.Request) (any, error) {
	definitions, err := definitions(r)
	if err != nil {
		return nil, err
	}
	res := submitted{JobIDs: []string{}, Timestamp: time.Now().UTC()}
	for _, d := range definitions {
		id, err := a.submitOne(r, d)
		if err != nil {
			if len(definitions) == 1 {
				return nil, err
			}
			res.Rejected++
			res.Errors = append(res.Errors, d.VMPath+": "+status.Convert(intercept.Status(err)).Message())
			continue
		}
		res.Accepted++
		res.JobIDs = append(res.JobIDs, id)
	}
	return res, nil
}

func (a *api) submitOne(r *http.Request, d *definition) (string, error) {
	spec, err := d.spec()
	if err != nil {
		return "", err
	}
	job, err := a.jobs.SubmitJob(r.Context(), &exportv1.SubmitJobRequest{Name: d.Name, Spec: spec, RequestId: d.ID})
	return job.GetJob().GetId(), err
}

func definitions(r *http.Request) ([]*definition, error) {
	raw, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var many []*definition
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		return many, decodeBytes(raw, &many)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err == nil && keys["jobs"] != nil {
		var list struct {
			Jobs []*definition `json:"jobs"`
		}
		return list.Jobs, decodeBytes(raw, &list)
	}
	one := new(definition)
	return []*definition{one}, decodeBytes(raw, one)
}

// jobView is HyperSDK's Job.
type jobView struct {
	Definition  *definition   `json:"definition"`
	Status      string        `json:"status"`
	Progress    *progressView `json:"progress,omitempty"`
	Result      *resultView   `json:"result,omitempty"`
	Error       string        `json:"error,omitempty"`
	StartedAt   *time.Time    `json:"started_at,omitempty"`
	CompletedAt *time.Time    `json:"completed_at,omitempty"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

type progressView struct {
	Phase              string  `json:"phase"`
	CurrentFile        string  `json:"current_file,omitempty"`
	CurrentStep        string  `json:"current_step,omitempty"`
	FilesDownloaded    int     `json:"files_downloaded"`
	TotalFiles         int     `json:"total_files"`
	BytesDownloaded    uint64  `json:"bytes_downloaded"`
	BytesTransferred   uint64  `json:"bytes_transferred"`
	TotalBytes         uint64  `json:"total_bytes"`
	PercentComplete    float64 `json:"percent_complete"`
	Percentage         float64 `json:"percentage"`
	RateBytesPerSecond uint64  `json:"rate_bytes_per_second"`
	EstimatedRemaining string  `json:"estimated_remaining,omitempty"`
	ExportMethod       string  `json:"export_method,omitempty"`
}

type resultView struct {
	VMName       string   `json:"vm_name"`
	OutputDir    string   `json:"output_dir,omitempty"`
	OVFPath      string   `json:"ovf_path,omitempty"`
	Files        []string `json:"files"`
	OutputFiles  []string `json:"output_files"`
	TotalSize    uint64   `json:"total_size"`
	Duration     int64    `json:"duration"` // nanoseconds, as HyperSDK has it
	Success      bool     `json:"success"`
	ExportMethod string   `json:"export_method"`
	VMUUID       string   `json:"vm_uuid,omitempty"`
	VMIPAddress  string   `json:"vm_ip_address,omitempty"`
}

func viewOf(j *exportv1.Job) jobView {
	v := jobView{
		Definition: definitionOf(j), Status: enumtext.Of(j.GetState()), Progress: progressOf(j), Error: j.GetError().GetMessage(),
		UpdatedAt: j.GetUpdatedOn().AsTime(),
	}
	if t := j.GetStartedOn(); t != nil {
		at := t.AsTime()
		v.StartedAt = &at
	}
	if t := j.GetFinishedOn(); t != nil {
		at := t.AsTime()
		v.CompletedAt = &at
	}
	if r := j.GetResult(); r != nil {
		v.Result = &resultView{
			VMName: r.GetVmName(), OutputDir: r.GetOutputDirectory(), OVFPath: r.GetOvfPath(), TotalSize: r.GetTotalBytes(), Files: []string{},
			Duration: r.GetDuration().AsDuration().Nanoseconds(), Success: true, ExportMethod: r.GetExportMethod(), VMUUID: r.GetVmUuid(),
			VMIPAddress: r.GetVmIpAddress(),
		}
		for _, f := range r.GetFiles() {
			if f.GetPath() != "" {
				v.Result.Files = append(v.Result.Files, f.GetPath())
			}
		}
		v.Result.OutputFiles = v.Result.Files
	}
	return v
}

func progressOf(j *exportv1.Job) *progressView {
	p := j.GetProgress()
	v := &progressView{
		Phase: p.GetPhase(), CurrentStep: p.GetPhase(), CurrentFile: p.GetCurrentFile(), TotalFiles: len(p.GetDisks()), BytesDownloaded: p.GetBytesDone(),
		BytesTransferred: p.GetBytesRead(), TotalBytes: p.GetBytesTotal(), RateBytesPerSecond: p.GetRateBytesPerSecond(),
		ExportMethod: j.GetResult().GetExportMethod(),
	}
	for _, d := range p.GetDisks() {
		if d.GetComplete() {
			v.FilesDownloaded++
		}
	}
	if p.GetBytesTotal() > 0 {
		v.PercentComplete = float64(p.GetBytesDone()) / float64(p.GetBytesTotal()) * 100
	}
	if j.GetState() == exportv1.JobState_JOB_STATE_COMPLETED {
		v.PercentComplete = 100
	}
	v.Percentage = v.PercentComplete
	if r := p.GetEstimatedRemaining(); r != nil {
		v.EstimatedRemaining = r.AsDuration().Round(time.Second).String()
	}
	return v
}

// query lists jobs: all, or those of the given ids or states.
func (a *api) query(r *http.Request) (any, error) {
	var q struct {
		JobIDs []string `json:"job_ids"`
		Status []string `json:"status"`
		All    bool     `json:"all"`
		Limit  int      `json:"limit"`
	}
	if r.Method == http.MethodPost {
		if err := decode(r, &q); err != nil {
			return nil, err
		}
	} else if id := r.URL.Query().Get("id"); id != "" {
		q.JobIDs = []string{id}
	}
	states, err := states(q.Status)
	if err != nil {
		return nil, err
	}
	list, err := a.jobs.ListJobs(r.Context(), &exportv1.ListJobsRequest{States: states})
	if err != nil {
		return nil, err
	}
	views := []jobView{}
	for _, j := range list.GetJobs() {
		if len(q.JobIDs) > 0 && !slices.Contains(q.JobIDs, j.GetId()) {
			continue
		}
		if views = append(views, viewOf(j)); len(views) == q.Limit {
			break
		}
	}
	return map[string]any{"jobs": views, "total": len(views), "timestamp": time.Now().UTC()}, nil
}

func states(names []string) ([]exportv1.JobState, error) {
	var all []exportv1.JobState
	for _, n := range names {
		s, ok := exportv1.JobState_value["JOB_STATE_"+strings.ToUpper(n)]
		if !ok || s == 0 {
			return nil, fault.New(fault.InvalidArgument, "status: %q is not pending, running, completed, failed or cancelled", n)
		}
		all = append(all, exportv1.JobState(s))
	}
	return all, nil
}

func (a *api) get(r *http.Request) (*exportv1.Job, error) {
	res, err := a.jobs.GetJob(r.Context(), &exportv1.GetJobRequest{Id: r.PathValue("id")})
	return res.GetJob(), err
}

func (a *api) job(r *http.Request) (any, error) {
	j, err := a.get(r)
	if err != nil {
		return nil, err
	}
	return viewOf(j), nil
}

func (a *api) progress(r *http.Request) (any, error) {
	j, err := a.get(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"job_id": j.GetId(), "status": enumtext.Of(j.GetState()), "progress": progressOf(j), "error": j.GetError().GetMessage(), "timestamp": time.Now().UTC(),
	}, nil
}

type logLine struct {
	Timestamp time.Time `json:"timestamp"`
	Level     string    `json:"level"`
	Message   string    `json:"message"`
}

func (a *api) logs(r *http.Request) (any, error) {
	res, err := a.jobs.ListJobLogs(r.Context(), &exportv1.ListJobLogsRequest{Id: r.PathValue("id")})
	if err != nil {
		return nil, err
	}
	lines := []logLine{}
	for _, e := range res.GetEntries() {
		lines = append(lines, logLine{e.GetTime().AsTime(), strings.ToLower(e.GetLevel()), e.GetMessage()})
	}
	return map[string]any{"job_id": r.PathValue("id"), "logs": lines, "log_count": len(lines)}, nil
}

func (a *api) cancel(r *http.Request) (any, error) {
	var q struct {
		JobIDs []string `json:"job_ids"`
	}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if len(q.JobIDs) == 0 {
		return nil, fault.New(fault.InvalidArgument, "job_ids: is empty; name the jobs to cancel")
	}
	cancelled, failed, problems := []string{}, []string{}, map[string]string{}
	for _, id := range q.JobIDs {
		if _, err := a.jobs.CancelJob(r.Context(), &exportv1.CancelJobRequest{Id: id}); err != nil {
			failed = append(failed, id)
			problems[id] = status.Convert(err).Message()
			continue
		}
		cancelled = append(cancelled, id)
	}
	return map[string]any{"cancelled": cancelled, "failed": failed, "errors": problems, "timestamp": time.Now().UTC()}, nil
}
