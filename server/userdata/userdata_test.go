package userdata_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/userdata"
)

func TestReplaceKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	if got := content(t, s); got != "" {
		t.Errorf("a new VM has %q", got)
	}
	if err := restore(t, s); !fault.Is(err, fault.NotFound) {
		t.Errorf("restore of nothing: %v", err)
	}
	long := string(bytes.Repeat([]byte("0123456789abcdef"), 20000))
	for _, err := range []error{
		replace(t, s, message("web", 5, "fi"), message("", 0, "rst")),
		replace(t, s, message("web", 6, ""), message("", 0, "second")),
		replace(t, s, message("web", uint64(len(long)), long)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if content(t, s) != long {
		t.Error("the last upload is not what is returned")
	}
	if err := restore(t, s); err != nil || content(t, s) != "second" {
		t.Errorf("restored %q, %v", content(t, s), err)
	}
	if err := restore(t, s); !fault.Is(err, fault.NotFound) || content(t, s) != "second" {
		t.Errorf("second restore: %v", err)
	}
	for _, name := range []string{userdata.File} {
		if info, err := os.Stat(filepath.Join(v.dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if v.held {
		t.Error("the VM's lock was not given back")
	}
}

func TestSizeZeroTakesItAway(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	for _, m := range []*hypervisorv1.ReplaceVmUserDataRequest{message("web", 1, "x"), message("web", 0, ""), message("web", 0, "")} {
		if err := replace(t, s, m); err != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, s); got != "" {
		t.Errorf("%q is left", got)
	}
	if err := restore(t, s); err != nil || content(t, s) != "x" {
		t.Errorf("restored %q, %v", content(t, s), err)
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	for _, text := range []string{"a", "b"} {
		if err := replace(t, s, message("web", 1, text)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // nothing to discard is no error
		if _, err := s.DiscardVmOldUserData(t.Context(), &hypervisorv1.DiscardVmOldUserDataRequest{Vm: "web"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := restore(t, s); !fault.Is(err, fault.NotFound) || content(t, s) != "b" {
		t.Errorf("restore after discard: %v, %q", err, content(t, s))
	}
	if _, err := os.Stat(filepath.Join(v.dir, userdata.OldFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the old file is still there")
	}
}

func TestBadUploadChangesNothing(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	for _, text := range []string{"older", "now"} {
		if err := replace(t, s, message("web", uint64(len(text)), text)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		messages []*hypervisorv1.ReplaceVmUserDataRequest
		want     fault.Code
	}{
		"nothing":         {nil, fault.InvalidArgument},
		"too short":       {[]*hypervisorv1.ReplaceVmUserDataRequest{message("web", 4, "abc")}, fault.InvalidArgument},
		"too long":        {[]*hypervisorv1.ReplaceVmUserDataRequest{message("web", 4, "abc"), message("", 0, "de")}, fault.InvalidArgument},
		"too big":         {[]*hypervisorv1.ReplaceVmUserDataRequest{message("web", userdata.MaxSize+1, "")}, fault.InvalidArgument},
		"another VM":      {[]*hypervisorv1.ReplaceVmUserDataRequest{message("web", 2, "a"), message("db", 0, "b")}, fault.InvalidArgument},
		"no such VM":      {[]*hypervisorv1.ReplaceVmUserDataRequest{message("db", 1, "a")}, fault.NotFound},
		"empty of no one": {[]*hypervisorv1.ReplaceVmUserDataRequest{message("db", 0, "")}, fault.NotFound},
	} {
		if err := replace(t, s, c.messages...); !fault.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cut := &uploading{ctx: t.Context(), messages: []*hypervisorv1.ReplaceVmUserDataRequest{message("web", 3, "abc")}, broken: context.Canceled}
	if err := s.ReplaceVmUserData(cut); !errors.Is(err, context.Canceled) {
		t.Errorf("client that goes away: %v", err)
	}
	if got := content(t, s); got != "now" {
		t.Errorf("changed to %q", got)
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("files: %v, %v", entries, err)
	}
	if err := restore(t, s); err != nil || content(t, s) != "older" {
		t.Errorf("kept %q, %v", content(t, s), err)
	}
}

// TestFailureIsTakenBack: the old one can not be kept, because its name is taken by a folder.
func TestFailureIsTakenBack(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	if err := replace(t, s, message("web", 3, "now")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(v.dir, userdata.OldFile, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"later", ""} {
		if err := replace(t, s, message("web", uint64(len(text)), text)); err == nil {
			t.Error("success without keeping the old one")
		}
		if got := content(t, s); got != "now" {
			t.Errorf("changed to %q", got)
		}
	}
	if entries, err := os.ReadDir(v.dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
