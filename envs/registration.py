"""The environments of this package, by their Gymnasium ids.

``import hindsight_rl.envs`` registers them; without an import of one's own,
``gymnasium.make("hindsight_rl.envs:Hindsight/FourRooms-v0")`` does. Gymnasium 1.0 and later load no
plugins, so that an installed package cannot register by itself.
"""

import gymnasium

# Name, module, class of many at once, steps after which an episode is cut.
_ENVIRONMENTS = (
    ("FourRooms", "four_rooms", "rooms_vector:FourRoomsVectorEnv", 75),
    ("FourCorners", "four_corners", "rooms_vector:FourCornersVectorEnv", 75),
    ("FourMargins", "four_margins", "rooms_vector:FourMarginsVectorEnv", 75),
    ("PointMass", "point_mass", None, 100),
    ("Crossing", "crossing", None, 20),
    ("Bandit", "bandit", None, 1),
    ("DeskStandIn", "robots.desk", None, 128),  # needs the extra ``robots``
)

# Name, world, steps after which an episode is cut. They need the extra ``robots``.
_ROBOTS = (
    ("Walker", "walker:Walker", 100),
    ("HalfCheetah", "cheetah:HalfCheetah", 100),
    ("Reacher", "reacher:Reacher", 1000),
    ("Reacher32", "reacher:Reacher32", 1000),
    ("Finger", "finger:Finger", 1000),
    ("Quadruped", "quadruped:Quadruped", 300),
    ("QuadrupedDense", "quadruped:QuadrupedDense", 300),
    ("SawyerReach", "sawyer:SawyerReach", 150),
    ("SawyerReachMargins", "sawyer:SawyerReachMargins", 150),
    ("JacoReach", "jaco:JacoReach", 250),
)


def register() -> None:
    """Register the environments; a second call changes nothing."""
    for name, module, many, horizon in _ENVIRONMENTS:
        key = f"Hindsight/{name}-v0"
        if key not in gymnasium.registry:
            gymnasium.register(
                key,
                entry_point=f"hindsight_rl.envs.{module}:{name}",
                vector_entry_point=None if many is None else f"hindsight_rl.envs.{many}",
                max_episode_steps=horizon,
            )
    for name, world, horizon in _ROBOTS:
        key = f"Hindsight/{name}-v0"
        if key not in gymnasium.registry:
            gymnasium.register(
                key,
                entry_point="hindsight_rl.envs.robots.single:RobotEnv",
                vector_entry_point="hindsight_rl.envs.robots.many:RobotVectorEnv",
                max_episode_steps=horizon,
                kwargs={"world": world},
            )
