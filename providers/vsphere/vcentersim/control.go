package vcentersim

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxWrite bounds what one request to the control handler may write to a disk.
const maxWrite = 64 << 20

// Control returns a handler with which another process makes things happen. It asks for no password, so it belongs on loopback.
//
//	GET    /record                                what happened so far, as a Record
//	POST   /faults                                a Fault, as JSON
//	DELETE /faults                                takes all faults back
//	POST   /writes?vm=NAME&disk=N&offset=BYTES    the body is written to a disk, as the guest would
//	POST   /power?vm=NAME&on=true|false           starts or stops a VM
//	POST   /snapshots?vm=NAME&name=TEXT           makes a snapshot
//	DELETE /snapshots?vm=NAME                     removes all snapshots of a VM
//	DELETE /sessions                              ends the sessions of all clients
func (s *Simulator) Control() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(*http.Request) error{
		"POST /faults": s.controlFault,
		"DELETE /faults": func(*http.Request) error {
			s.ClearFaults()
			return nil
		},
		"POST /writes": s.controlWrite,
		"POST /power":  s.controlPower,
		"POST /snapshots": func(r *http.Request) error {
			return s.CreateSnapshot(r.Context(), r.URL.Query().Get("vm"), r.URL.Query().Get("name"))
		},
		"DELETE /snapshots": func(r *http.Request) error { return s.RemoveSnapshots(r.Context(), r.URL.Query().Get("vm")) },
		"DELETE /sessions":  func(r *http.Request) error { return s.EndSessions(r.Context()) },
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r); err != nil {
				http.Error(w, err.Error(), controlStatus(err))
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	mux.HandleFunc("GET /record", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Record()) // the client is gone if this fails
	})
	return mux
}

func controlStatus(err error) int {
	switch fault.CodeOf(err) {
	case fault.InvalidArgument, fault.OutOfRange:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	default:
		return http.StatusInternalServerError
	}
}

func (s *Simulator) controlFault(r *http.Request) error {
	var f Fault
	dec := json.NewDecoder(io.LimitReader(r.Body, 1<<16))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return fault.As(fault.InvalidArgument, err, "fault")
	}
	return s.Inject(f)
}

func (s *Simulator) controlWrite(r *http.Request) error {
	q := r.URL.Query()
	disk, err := strconv.Atoi(q.Get("disk"))
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "disk")
	}
	off, err := strconv.ParseInt(q.Get("offset"), 10, 64)
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "offset")
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxWrite+1))
	if err != nil {
		return err
	}
	if len(data) > maxWrite {
		return fault.New(fault.InvalidArgument, "a write of more than %d bytes", maxWrite)
	}
	return s.WriteDisk(q.Get("vm"), disk, data, off)
}

func (s *Simulator) controlPower(r *http.Request) error {
	on, err := strconv.ParseBool(r.URL.Query().Get("on"))
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "on")
	}
	return s.SetPower(r.Context(), r.URL.Query().Get("vm"), on)
}
