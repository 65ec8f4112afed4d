package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Where the store keeps what belongs to jobs, each by job id.
const (
	jobPrefix     = "jobs/"
	logPrefix     = "job-logs/"
	journalPrefix = "job-journals/"
	secretPrefix  = "job-secrets/"
	requestPrefix = "job-requests/"
)

// maxLogEntries bounds a job's log; what is older goes.
const maxLogEntries = 10000

func (m *Manager) load(ctx context.Context) error {
	return m.store.View(ctx, func(r store.Reader) error {
		for e := range r.Scan(jobPrefix, "") {
			j := new(exportv1.Job)
			if err := proto.Unmarshal(e.Value, j); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			en := newEntry(j)
			for l := range r.Scan(logPrefix+j.GetId()+"/", "") {
				if _, err := fmt.Sscanf(l.Key[len(logPrefix+j.GetId()+"/"):], "%d", &en.logSeq); err != nil {
					return fault.As(fault.DataLoss, err, "state: %s", l.Key)
				}
			}
			m.jobs[j.GetId()] = en
		}
		return nil
	})
}

// persist writes a job down before anything else happens with it. If its request id was used before it returns that job's id instead.
func (m *Manager) persist(ctx context.Context, j *exportv1.Job, requestID string, secrets map[string]string) (earlier string, err error) {
	raw, err := proto.Marshal(j)
	if err != nil {
		return "", err
	}
	sealed, err := m.vault.Seal(j.GetId(), secrets)
	if err != nil {
		return "", err
	}
	_, err = m.store.Update(ctx, func(w store.Writer) error {
		earlier = ""
		if requestID != "" {
			e, err := w.Get(requestPrefix + requestID)
			if err == nil {
				earlier = string(e.Value)
				return nil
			}
			if !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err := w.Put(requestPrefix+requestID, []byte(j.GetId())); err != nil {
				return err
			}
		}
		return errors.Join(w.Put(jobPrefix+j.GetId(), raw), w.Put(secretPrefix+j.GetId(), sealed))
	})
	return earlier, err
}

// update replaces a job by a changed copy, in memory and in the store, and wakes its watchers.
func (m *Manager) update(id string, change func(*exportv1.Job)) *exportv1.Job {
	j := m.touch(id, change)
	raw, err := proto.Marshal(j)
	if err == nil {
		_, err = m.store.Update(context.WithoutCancel(m.base), func(w store.Writer) error { return w.Put(jobPrefix+id, raw) })
	}
	if err != nil {
		m.log.LogAttrs(m.base, slog.LevelError, "job not kept", slog.String("job", id), slog.Any("error", err))
	}
	return j
}

// touch replaces a job in memory only: for progress, which a restart may forget.
func (m *Manager) touch(id string, change func(*exportv1.Job)) *exportv1.Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.jobs[id]
	j := proto.CloneOf(e.job)
	change(j)
	j.UpdatedOn = timestamppb.New(m.cfg.Now())
	e.job = j
	close(e.changed)
	e.changed = make(chan struct{})
	return j
}

// note adds a line to a job's log.
func (m *Manager) note(id string, level slog.Level, message string) {
	m.mu.Lock()
	e := m.jobs[id]
	e.logSeq++
	seq := e.logSeq
	m.mu.Unlock()
	entry := &exportv1.JobLogEntry{Sequence: seq, Time: timestamppb.New(m.cfg.Now()), Level: level.String(), Message: message}
	raw, err := proto.Marshal(entry)
	if err == nil {
		_, err = m.store.Update(context.WithoutCancel(m.base), func(w store.Writer) error {
			if seq > maxLogEntries {
				if err := w.Delete(logKey(id, seq-maxLogEntries)); err != nil {
					return err
				}
			}
			return w.Put(logKey(id, seq), raw)
		})
	}
	if err != nil {
		m.log.LogAttrs(m.base, slog.LevelError, "job log not kept", slog.String("job", id), slog.Any("error", err))
	}
	m.log.LogAttrs(m.base, level, "job", slog.String("job", id), slog.String("message", message))
}

func logKey(id string, seq uint64) string { return fmt.Sprintf("%s%s/%020d", logPrefix, id, seq) }

// Logs returns at most limit lines (0 = all) of a job's log after the given sequence number.
func (m *Manager) Logs(ctx context.Context, id string, after uint64, limit int) ([]*exportv1.JobLogEntry, error) {
	if _, err := m.entry(id); err != nil {
		return nil, err
	}
	var all []*exportv1.JobLogEntry
	err := m.store.View(ctx, func(r store.Reader) error {
		for e := range r.Scan(logPrefix+id+"/", logKey(id, after)) {
			line := new(exportv1.JobLogEntry)
			if err := proto.Unmarshal(e.Value, line); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			if all = append(all, line); len(all) == limit {
				break
			}
		}
		return nil
	})
	return all, err
}

// forgetWork removes what only a job that goes on needs: its journal and its secrets.
func (m *Manager) forgetWork(id string) {
	_, err := m.store.Update(context.WithoutCancel(m.base), func(w store.Writer) error {
		return errors.Join(w.Delete(journalPrefix+id), w.Delete(secretPrefix+id))
	})
	if err != nil {
		m.log.LogAttrs(m.base, slog.LevelError, "job's secrets not removed", slog.String("job", id), slog.Any("error", err))
	}
}

// Task is a job at work.
type Task struct {
	Job *exportv1.Job
	// Secrets are those that Prepare took out of the spec.
	Secrets map[string]string
	manager *Manager
}

func (m *Manager) task(ctx context.Context, j *exportv1.Job) (*Task, error) {
	t := &Task{Job: j, manager: m}
	var sealed []byte
	err := m.store.View(ctx, func(r store.Reader) error {
		e, err := r.Get(secretPrefix + j.GetId())
		sealed = append(sealed, e.Value...)
		return err
	})
	if err != nil {
		return nil, fault.As(fault.DataLoss, err, "job %s: secrets", j.GetId())
	}
	t.Secrets, err = m.vault.Open(j.GetId(), sealed)
	return t, err
}

// Log adds a line to the job's log.
func (t *Task) Log(level slog.Level, format string, args ...any) {
	t.manager.note(t.Job.GetId(), level, fmt.Sprintf(format, args...))
}

// Progress tells how far the job is. The message must not be changed afterwards.
func (t *Task) Progress(p *exportv1.JobProgress) {
	t.manager.touch(t.Job.GetId(), func(j *exportv1.Job) { j.Progress = p })
}

// LoadJournal reads what an earlier run of the job saved into state; false if there is nothing.
func (t *Task) LoadJournal(ctx context.Context, state any) (bool, error) {
	err := t.manager.store.View(ctx, func(r store.Reader) error {
		e, err := r.Get(journalPrefix + t.Job.GetId())
		if err != nil {
			return err
		}
		return json.Unmarshal(e.Value, state)
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, fault.Wrap(err, "job %s: journal", t.Job.GetId())
}

// SaveJournal keeps state for a later run of the job. It holds no secret.
func (t *Task) SaveJournal(ctx context.Context, state any) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return err
	}
	_, err = t.manager.store.Update(ctx, func(w store.Writer) error { return w.Put(journalPrefix+t.Job.GetId(), raw) })
	return fault.Wrap(err, "job %s: journal", t.Job.GetId())
}

func text(s exportv1.JobState) string { return enumtext.Of(s) }

// codeName is the name of a code as gRPC's JSON mapping has it: NOT_FOUND.
func codeName(c fault.Code) string {
	var b strings.Builder
	for i, r := range codes.Code(c).String() {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}
