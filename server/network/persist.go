package network

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Where the store keeps what the API has changed, as JSON: subnets by id, over those of the configuration, and how their pools differ from their ranges.
const (
	subnetPrefix = "network/subnets/"
	poolPrefix   = "network/pools/"
)

// subnetRecord is a subnet that was added or changed, or one of the configuration that was deleted.
type subnetRecord struct {
	Deleted bool   `json:"deleted,omitempty"`
	Subnet  Subnet `json:"subnet"`
}

// load puts what the store has over the subnets of the configuration.
func (s *Service) load(ctx context.Context) error {
	if s.Store == nil {
		return nil
	}
	return s.Store.View(ctx, func(tx store.Reader) error {
		for e := range tx.Scan(subnetPrefix, "") {
			var r subnetRecord
			if err := json.Unmarshal(e.Value, &r); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			s.override(strings.TrimPrefix(e.Key, subnetPrefix), r)
		}
		for e := range tx.Scan(poolPrefix, "") {
			var r poolRecord
			if err := json.Unmarshal(e.Value, &r); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			if p := s.find(strings.TrimPrefix(e.Key, poolPrefix)); p != nil {
				p.restore(r)
			}
		}
		return nil
	})
}

func (s *Service) override(id string, r subnetRecord) {
	at := slices.IndexFunc(s.subnets, func(p *pool) bool { return p.ID == id })
	switch {
	case r.Deleted && at >= 0:
		s.subnets = slices.Delete(s.subnets, at, at+1)
	case r.Deleted:
	case at >= 0:
		s.subnets[at] = newPool(r.Subnet)
	default:
		s.subnets = append(s.subnets, newPool(r.Subnet))
	}
}

// save writes to the store.
func (s *Service) save(ctx context.Context, write func(w store.Writer) error) error {
	if s.Store == nil {
		return nil
	}
	_, err := s.Store.Update(ctx, write)
	return fault.Wrap(err, "network")
}

// savePools keeps the pools. The caller holds mu.
func (s *Service) savePools(ctx context.Context) error {
	return s.save(ctx, func(w store.Writer) error {
		for _, p := range s.subnets {
			if err := put(w, poolPrefix+p.ID, p.record()); err != nil {
				return err
			}
		}
		return nil
	})
}

func put(w store.Writer, key string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fault.As(fault.Internal, err, "state: %s", key)
	}
	return w.Put(key, raw)
}
