package virtualisation

import (
	"context"
	"strconv"
	"strings"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// maxHold is how long keys can be held.
const maxHold = 10 * time.Second

// maxCode is the last code of a key (KEY_MAX of linux/input-event-codes.h).
const maxCode = 0x2ff

// shortNames are the words that people have for keys whose Linux names are others.
func shortNames() map[string]string {
	return map[string]string{
		"CTRL": "LEFTCTRL", "CONTROL": "LEFTCTRL", "ALT": "LEFTALT", "ALTGR": "RIGHTALT", "SHIFT": "LEFTSHIFT", "META": "LEFTMETA", "WIN": "LEFTMETA",
		"SUPER": "LEFTMETA", "DEL": "DELETE", "INS": "INSERT", "ESCAPE": "ESC", "RETURN": "ENTER", "BACK": "BACKSPACE", "PGUP": "PAGEUP", "PGDN": "PAGEDOWN",
		"PRINT": "SYSRQ", "SPACEBAR": "SPACE",
	}
}

// SendDomainKeys implements VirtualisationService. It changes nothing of a VM's record, so it takes VMs too.
func (s *Service) SendDomainKeys(ctx context.Context, req *hypervisorv1.SendDomainKeysRequest) (*hypervisorv1.SendDomainKeysResponse, error) {
	codes, err := parseKeys(req.GetKeys())
	if err != nil {
		return nil, err
	}
	hold := req.GetHold().AsDuration()
	if hold < 0 || hold > maxHold {
		return nil, fault.New(fault.InvalidArgument, "hold: %s is not between 0 and %s", hold, maxHold)
	}
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	if err := s.Driver.SendKeys(ctx, dom.UUID, codes, hold); err != nil {
		return nil, ofVM(record, err)
	}
	return &hypervisorv1.SendDomainKeysResponse{}, nil
}

// parseKeys reads names and codes of keys, and several joined by '-'.
func parseKeys(keys []string) ([]uint32, error) {
	names, short := keyCodes(), shortNames()
	var codes []uint32
	for _, key := range keys {
		for word := range strings.SplitSeq(key, "-") {
			code, err := parseKey(word, names, short)
			if err != nil {
				return nil, err
			}
			codes = append(codes, code)
		}
	}
	if len(codes) == 0 || len(codes) > hypervisor.MaxKeys {
		return nil, fault.New(fault.InvalidArgument, "keys: there are %d, and there must be 1 to %d", len(codes), hypervisor.MaxKeys)
	}
	return codes, nil
}

func parseKey(word string, names map[string]uint32, short map[string]string) (uint32, error) {
	name := strings.TrimPrefix(strings.ToUpper(word), "KEY_")
	if code, ok := names[name]; ok { // also the digits, whose keys are meant rather than codes below 10
		return code, nil
	}
	if code, ok := names[short[name]]; ok {
		return code, nil
	}
	if code, err := strconv.ParseUint(word, 10, 32); err == nil && code > 0 && code <= maxCode {
		return uint32(code), nil
	}
	return 0, fault.New(fault.InvalidArgument, "keys: %q is no key; use a name of linux/input-event-codes.h like KEY_A, or a code like 30", word)
}
