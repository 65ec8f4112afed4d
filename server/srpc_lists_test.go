package server_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// TestLegacyLists asks for what stock servers tell about themselves beside SRPC, which here takes a credential.
func TestLegacyLists(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	client, base := s.HTTP()
	lines := make(map[string][]string)
	for _, name := range []string{"listMethods", "listPublicMethods", "getHostname"} {
		if code, body := get(t, client, base+"/_goSRPC_/"+name, ""); code != http.StatusUnauthorized {
			t.Errorf("%s without a credential: %d %s", name, code, body)
		}
		code, body := get(t, client, base+"/_goSRPC_/"+name, s.Token())
		if code != http.StatusOK {
			t.Errorf("%s: %d %s", name, code, body)
		}
		lines[name] = strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	}
	all, public := lines["listMethods"], lines["listPublicMethods"]
	// 78 methods of the stock server, 66 of them public.
	if len(all) != 78 || len(public) != 66 || !slices.Contains(all, "Hypervisor.PowerOff") || slices.Contains(public, "Hypervisor.PowerOff") ||
		!slices.Contains(public, "Hypervisor.ListVMs") {
		t.Errorf("%d methods, %d public: %v", len(all), len(public), public)
	}
	if host, err := os.Hostname(); err != nil || !slices.Equal(lines["getHostname"], []string{host}) {
		t.Errorf("%v, %v; want %s", lines["getHostname"], err, host)
	}
	open, base := servertest.Start(t, func(c *config.Config) { c.AllowUnauthenticatedReads = true }).HTTP()
	if code, _ := get(t, open, base+"/_goSRPC_/listMethods", ""); code != http.StatusOK {
		t.Errorf("with open reads: %d", code)
	}
}
