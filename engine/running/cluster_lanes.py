"""How many lanes there are on the embedded Redis Cluster, unless the settings say it."""

from engine.embedded import cluster_layout
from engine.embedded.cluster_forming import slots_of
from engine.lanes import keys
from engine.settings import Settings


def with_lanes(settings: Settings) -> Settings:
    """The settings with lanes for every master, if the data directory holds a cluster and they do not say how many.

    Every command must come to the same number, as it does from HONGBAO_LANES.
    """
    layout = cluster_layout.kept(settings.data_dir)
    if layout is None or "lanes" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"lanes": lanes_for(layout.masters)})


def lanes_for(masters: int) -> int:
    """The smallest number of lanes of which each master of a new cluster holds at least one."""
    wanting = [set(slots_of(index, masters)) for index in range(masters)]
    lanes = 0
    while wanting:
        slot = keys.slot(lanes)
        wanting = [slots for slots in wanting if slot not in slots]
        lanes += 1
    return lanes
