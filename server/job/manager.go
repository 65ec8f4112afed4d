// Package job runs long work that survives the daemon: a job is persisted before it starts, resumed after a crash, cancelled so that its
// work really stops, and tells true progress. What a job does is a Worker's business; package transfer below has the work itself.
package job

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Worker does the work of one kind of job.
type Worker interface {
	// Prepare checks a spec and fills in defaults. It takes secrets out of the spec and returns them; they are kept sealed while the job lives.
	Prepare(ctx context.Context, spec *exportv1.JobSpec) (secrets map[string]string, err error)
	// Run does the work. When ctx ends it stops, leaves nothing behind and returns the context's error, except if the cause is ErrShutdown:
	// then it leaves what a later Run with the same journal goes on from.
	Run(ctx context.Context, task *Task) (*exportv1.JobResult, error)
}

// ErrShutdown is the cause of a context that ends because the daemon does.
var ErrShutdown = errors.New("the daemon is shutting down")

var errCancelled = errors.New("the job was cancelled")

// Config are the settings of the manager.
type Config struct {
	// Concurrency is how many jobs run at once.
	Concurrency int
	Now         func() time.Time
	NewID       func() string
}

// Manager keeps and runs jobs.
type Manager struct {
	cfg    Config
	log    *slog.Logger
	store  store.Store
	vault  *Vault
	worker Worker
	slots  chan struct{}

	mu   sync.Mutex
	jobs map[string]*entry
	// stop ends all work at shutdown; running counts what must end first.
	base    context.Context //nolint:containedctx // the life of the manager, which jobs outlive their callers in
	stop    context.CancelCauseFunc
	running sync.WaitGroup
}

// entry is a job in memory.
type entry struct {
	job     *exportv1.Job // replaced, never changed
	cancel  context.CancelCauseFunc
	ended   chan struct{} // closed when no work of the job goes on any more
	changed chan struct{} // closed and replaced at each change
	logSeq  uint64
}

// NewManager reads the jobs from the store. Start takes up those that had not ended.
func NewManager(ctx context.Context, cfg Config, log *slog.Logger, s store.Store, v *Vault, w Worker) (*Manager, error) {
	base, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	m := &Manager{
		cfg: cfg, log: log, store: s, vault: v, worker: w, slots: make(chan struct{}, max(1, cfg.Concurrency)),
		jobs: make(map[string]*entry), base: base, stop: stop,
	}
	err := m.load(ctx)
	if err != nil {
		stop(err)
	}
	return m, err
}

// Start takes up the jobs that had not ended when an earlier daemon did, oldest first.
func (m *Manager) Start() {
	for _, j := range slices.Backward(m.List(nil)) { // List has the newest first
		if ended(j.GetState()) {
			continue
		}
		if j.GetState() == exportv1.JobState_JOB_STATE_RUNNING {
			m.note(j.GetId(), slog.LevelInfo, "the daemon was restarted; the job goes on")
			m.update(j.GetId(), func(j *exportv1.Job) { j.State = exportv1.JobState_JOB_STATE_PENDING; j.Resumes++ })
		}
		m.launch(j.GetId())
	}
}

// Close stops all work so that a later daemon takes it up, and waits until it has stopped.
func (m *Manager) Close() {
	m.stop(ErrShutdown)
	m.running.Wait()
}

// Submit persists a job and queues it. A request id that was used before returns that job.
func (m *Manager) Submit(ctx context.Context, name, owner, requestID string, spec *exportv1.JobSpec) (*exportv1.Job, error) {
	spec = proto.CloneOf(spec)
	secrets, err := m.worker.Prepare(ctx, spec)
	if err != nil {
		return nil, err
	}
	now := timestamppb.New(m.cfg.Now())
	j := &exportv1.Job{
		Id: m.cfg.NewID(), Name: name, Owner: owner, Spec: spec, State: exportv1.JobState_JOB_STATE_PENDING,
		CreatedOn: now, UpdatedOn: now, Progress: &exportv1.JobProgress{Phase: "waiting for its turn"},
	}
	earlier, err := m.persist(ctx, j, requestID, secrets)
	if err != nil || earlier != "" {
		if err == nil {
			return m.Get(earlier)
		}
		return nil, fault.Wrap(err, "job %q", name)
	}
	m.mu.Lock()
	m.jobs[j.GetId()] = newEntry(j)
	m.mu.Unlock()
	m.note(j.GetId(), slog.LevelInfo, "submitted by "+owner)
	m.launch(j.GetId())
	return j, nil
}

func newEntry(j *exportv1.Job) *entry {
	e := &entry{job: j, ended: make(chan struct{}), changed: make(chan struct{})}
	if ended(j.GetState()) {
		close(e.ended)
	}
	return e
}

// Get returns a job.
func (m *Manager) Get(id string) (*exportv1.Job, error) {
	e, err := m.entry(id)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return e.job, nil
}

func (m *Manager) entry(id string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.jobs[id]; e != nil {
		return e, nil
	}
	return nil, fault.New(fault.NotFound, "job %q: no such job; list them with ListJobs", id)
}

// List returns the jobs in the given states (none = all), newest first.
func (m *Manager) List(states []exportv1.JobState) []*exportv1.Job {
	m.mu.Lock()
	var all []*exportv1.Job
	for _, e := range m.jobs {
		if len(states) == 0 || slices.Contains(states, e.job.GetState()) {
			all = append(all, e.job)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b *exportv1.Job) int {
		if c := b.GetCreatedOn().AsTime().Compare(a.GetCreatedOn().AsTime()); c != 0 {
			return c
		}
		return strings.Compare(a.GetId(), b.GetId())
	})
	return all
}

// Cancel stops a job and returns when no work of it goes on any more.
func (m *Manager) Cancel(ctx context.Context, id string) (*exportv1.Job, error) {
	e, err := m.entry(id)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	state, cancel := e.job.GetState(), e.cancel
	m.mu.Unlock()
	if ended(state) || cancel == nil {
		return nil, fault.New(fault.FailedPrecondition, "job %s: has ended (%s)", id, text(state))
	}
	cancel(errCancelled)
	select {
	case <-e.ended:
		return m.Get(id)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Watch returns the job as it is and a channel that is closed when it changes.
func (m *Manager) Watch(id string) (*exportv1.Job, <-chan struct{}, error) {
	e, err := m.entry(id)
	if err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return e.job, e.changed, nil
}

// launch queues a job for its turn.
func (m *Manager) launch(id string) {
	ctx, cancel := context.WithCancelCause(m.base)
	m.mu.Lock()
	e := m.jobs[id]
	e.cancel = cancel
	m.mu.Unlock()
	m.running.Go(func() {
		defer cancel(nil)
		defer close(e.ended)
		select {
		case m.slots <- struct{}{}:
			defer func() { <-m.slots }()
			m.run(ctx, id)
		case <-ctx.Done():
			m.end(ctx, id, nil, ctx.Err())
		}
	})
}

// run does a job's work and records how it ended.
func (m *Manager) run(ctx context.Context, id string) {
	started := m.cfg.Now()
	j := m.update(id, func(j *exportv1.Job) {
		j.State = exportv1.JobState_JOB_STATE_RUNNING
		if j.GetStartedOn() == nil {
			j.StartedOn = timestamppb.New(started)
		}
		j.Progress = &exportv1.JobProgress{Phase: "starting"}
	})
	m.note(id, slog.LevelInfo, "started")
	task, err := m.task(ctx, j)
	var result *exportv1.JobResult
	if err == nil {
		result, err = m.work(ctx, task)
	}
	if result != nil {
		result.Duration = durationpb.New(m.cfg.Now().Sub(j.GetStartedOn().AsTime()))
	}
	m.end(ctx, id, result, err)
}

// work runs the worker; a panic in it fails the job, not the daemon.
func (m *Manager) work(ctx context.Context, task *Task) (result *exportv1.JobResult, err error) {
	defer func() {
		if r := recover(); r != nil {
			m.log.LogAttrs(ctx, slog.LevelError, "job panicked", slog.String("job", task.Job.GetId()), slog.Any("panic", r))
			result, err = nil, fault.New(fault.Internal, "internal error; the server's log has it")
		}
	}()
	return m.worker.Run(ctx, task)
}

// end records how a job ended. A job that was stopped by a shutdown stays as it is.
func (m *Manager) end(ctx context.Context, id string, result *exportv1.JobResult, err error) {
	if err != nil && errors.Is(context.Cause(ctx), ErrShutdown) {
		return
	}
	state, problem := exportv1.JobState_JOB_STATE_COMPLETED, (*exportv1.JobError)(nil)
	switch {
	case err == nil:
		m.note(id, slog.LevelInfo, "completed")
	case errors.Is(context.Cause(ctx), errCancelled):
		state = exportv1.JobState_JOB_STATE_CANCELLED
		m.note(id, slog.LevelWarn, "cancelled")
		if !errors.Is(err, context.Canceled) {
			m.note(id, slog.LevelError, "while cancelling: "+err.Error())
		}
	default:
		state, problem = exportv1.JobState_JOB_STATE_FAILED, &exportv1.JobError{Code: codeName(fault.CodeOf(err)), Message: err.Error()}
		m.note(id, slog.LevelError, err.Error())
	}
	m.update(id, func(j *exportv1.Job) {
		j.State, j.Result, j.Error, j.FinishedOn = state, result, problem, timestamppb.New(m.cfg.Now())
		p := proto.CloneOf(j.GetProgress())
		p.Phase, p.RateBytesPerSecond, p.EstimatedRemaining, p.CurrentFile = text(state), 0, nil, ""
		j.Progress = p
	})
	m.forgetWork(id)
}

func ended(s exportv1.JobState) bool {
	return s != exportv1.JobState_JOB_STATE_PENDING && s != exportv1.JobState_JOB_STATE_RUNNING
}
