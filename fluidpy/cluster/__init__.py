"""Workers that pool their stores: who they are, which bytes each keeps, how they read each other.

Here belongs what one worker knows of the others: the pool's members, the owners of a unit of data,
whom to ask first and whom to leave out for a while, and what has to move when members come and go.
What a worker then does with its own store (`fluidpy.worker`), who decides on the members
(`fluidpy.control`) and what the bytes are called in a Dataset (`fluidpy.namespace`) does not: this
package knows keys, offsets and members, never catalogs or stores.

* `membership`: the pool and its Datasets as the control plane wrote them, in one private file;
* `placement`: the owners of each unit (pure): weighted rendezvous hashing, so no worker is asked
  who owns what, and only what has to move moves; `fair_weights`: so that replicas are fair, too;
* `peer_protocol`, `peer_client` and what they need: how workers ask one another over HTTP;
* `peer_health`, `hedging`: who is left out for a while, and when another one is asked as well.
* `rebalance_plan`: what one worker takes over when members come and go (pure).
"""
